"""The switch of a cluster of namespaces: a bridge, one port for the head, one for each node.

Rule 1: the bridge has a network namespace of its own, out of reach of this machine's firewall rules.
Rule 2: the head's interface is the only one added to the machine, and it goes with the switch.
"""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from signal import SIGKILL

from tests.rig.packages import PATH
from tests.rig.processes import Processes, wait_until
from tests.rig.settings import RigError, Settings

SWITCH = "switch"
BRIDGE = "br0"
HEAD_PORT = "up0"


def ip(*batch: str, pid: int | None = None, force: bool = False) -> str:
    """Run lines of ``ip`` commands here, or in the network namespace of ``pid``.

    Raises:
        RigError: one of them failed and ``force`` was not given.
    """
    enter = [] if pid is None else ["nsenter", f"--net=/proc/{pid}/ns/net"]
    done = subprocess.run(
        [*enter, "ip", *(["-force"] if force else []), "-batch", "-"],
        input="\n".join(batch) + "\n",
        env={"PATH": PATH},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if done.returncode != 0 and not force:
        raise RigError(f"ip failed: {batch!r}: {done.stderr.strip()}")
    return done.stdout


class Switch:
    """Cables between the head and the nodes, to be plugged, cut and mended."""

    def __init__(self, settings: Settings, processes: Processes) -> None:
        self._settings = settings
        self._processes = processes

    def is_up(self) -> bool:
        return self._processes.pid(SWITCH) is not None

    def up(self) -> None:
        """Start the switch and connect the head.

        Raises:
            RigError: the interface or the subnet is taken by somebody else.
        """
        self._refuse_if_taken()
        pid = self._processes.launch(SWITCH, ["unshare", "--net", "--", "sleep", "infinity"]).pid
        own = Path("/proc/self/ns/net").readlink()
        wait_until(lambda: Path(f"/proc/{pid}/ns/net").readlink() != own, "the switch's namespace", 10)
        interface = self._settings.interface
        self._ip(
            "link set lo up",
            f"link add {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            f"link set {BRIDGE} up",
        )
        ip(
            f"link add {interface} type veth peer name {HEAD_PORT} netns {pid}",
            f"addr add {self._settings.head_address}/24 dev {interface}",
            f"link set {interface} up",
        )
        self._ip(f"link set {HEAD_PORT} master {BRIDGE}", f"link set {HEAD_PORT} up")
        self._prompt_acknowledgements(self._settings.head_address)

    def down(self) -> None:
        """Remove the head's interface and end the switch."""
        if self.is_up():
            ip(f"link del {self._settings.interface}", force=True)
        self._processes.stop(SWITCH, SIGKILL)

    def plug(self, node: str, node_pid: int) -> None:
        """Connect a node that is named by any process in its namespaces."""
        address = self._settings.address(node)
        interface = self._settings.interface
        self.unplug(node)
        self._ip(
            f"link add {node} type veth peer name {interface} netns {node_pid}",
            f"link set {node} master {BRIDGE}",
            f"link set {node} up",
        )
        ip(
            "link set lo up",
            f"addr add {address}/24 dev {interface}",
            f"link set {interface} up",
            f"route add default via {self._settings.head_address}",
            pid=node_pid,
        )
        self._prompt_acknowledgements(address, node_pid)

    def unplug(self, node: str) -> None:
        """Take a node's cable away, its interface with it; nothing that the node still says gets out."""
        self._ip(f"link del {node}", force=True)

    def cut(self, node: str) -> None:
        """Partition a node: its interface stays up, its packets go nowhere."""
        self._ip(f"link set {node} nomaster")

    def mend(self, node: str) -> None:
        """End a node's partition."""
        self._ip(f"link set {node} master {BRIDGE}", f"link set {node} up")

    def connected(self) -> set[str]:
        """The nodes whose packets arrive."""
        if not self.is_up():
            return set()
        return set(re.findall(r"^\d+: ([^@:]+)@", self._ip(f"link show master {BRIDGE} up"), re.MULTILINE))

    def _ip(self, *batch: str, force: bool = False) -> str:
        pid = self._processes.pid(SWITCH)
        if pid is None:
            raise RigError("the switch is down")
        return ip(*batch, pid=pid, force=force)

    def _prompt_acknowledgements(self, address: str, pid: int | None = None) -> None:
        # Slurm's small messages meet TCP's delayed acknowledgements, 40 ms each way.
        # Where the kernel will not have it, everything works, only slower.
        route = f"dev {self._settings.interface} proto kernel src {address} quickack 1"
        ip(
            f"route change local {address} table local scope host {route}",
            f"route change {self._settings.subnet}.0/24 scope link {route}",
            pid=pid,
            force=True,
        )

    def _refuse_if_taken(self) -> None:
        interface, subnet = self._settings.interface, self._settings.subnet
        another = "choose another instance"
        deadline = time.monotonic() + 5  # the kernel may still be taking away that of a switch that was killed
        while Path(f"/sys/class/net/{interface}").exists():
            if time.monotonic() > deadline:
                raise RigError(f"network interface {interface} exists and is not this rig's; {another}")
            time.sleep(0.05)
        if ip(f"addr show to {subnet}.0/24"):
            raise RigError(f"the network {subnet}.0/24 is in use on this machine; {another}")
