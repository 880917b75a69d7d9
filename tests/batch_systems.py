"""The batch systems that ensembles are tried on, behind one face.

A test that asks for ``batch_system`` runs on Local, on a real Slurm and on the stand-ins of PBS, and with ``--pbs`` on
the PBS of this machine; one that asks for ``chain_system``, on those that have jobs for drivers. What a test may do to
a batch system from outside is here, once for each.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from scalable_hpc.batch.local import LocalBackend
from scalable_hpc.batch.pbs import PbsBackend
from scalable_hpc.runs import list_runs
from tests.ensembles import Ensemble
from tests.pbs_support import RealPbs, StandInPbs
from tests.rig.cluster import SlurmRig
from tests.standins.pbs_settings import Node
from tests.waiting import T, wait_until


@dataclass(frozen=True)
class Outlasting:
    """Work that outlasts a walltime: the shortest walltime that is of use, and scenarios for more than one of it."""

    walltime: str
    count: int
    seconds: float


@dataclass(frozen=True)
class Refusal:
    """What a batch system does not take: what is asked for, the exit code, and words that the user must see."""

    asked: Mapping[str, Any]
    code: int
    words: Sequence[str]
    cpus: int = 1


@dataclass
class BatchSystem:
    """One batch system and what can be done to it; a job is named by its id."""

    name: str
    keys: dict[str, Any]
    """Of a manifest's target."""
    env: Mapping[str, str] = field(default_factory=dict)
    """What a driver needs in its environment."""
    cpus: int = 4
    """Of a worker: a whole node, where nodes are ours to lose."""
    link_walltime: str = "00:01:00"
    """Of one job of a driver."""
    lost: frozenset[str | None] = frozenset({"node_fail"})
    """How the end of a job is told whose node was cut off."""
    cancelled: frozenset[str | None] = frozenset({"cancelled"})
    """And of one that somebody cancelled."""
    outlasting: Outlasting = Outlasting("00:00:24", 24, 4.0)
    slowness: float = 1.0
    """How much longer than on our own machine everything may take."""

    def target(self, *, most: int = 1, walltime: str = "00:10:00", **more: Any) -> dict[str, Any]:
        """Return a manifest's target of so many allocations at most."""
        return {**self.keys, "poll": 1, "allocations": {"min": 0, "max": most, "walltime": walltime}, **more}

    def wait(self, what: str, condition: Callable[[], T], seconds: float) -> T:
        """Wait until something is so, as long as this batch system may need for it."""
        return wait_until(what, condition, timeout=seconds * self.slowness)

    closed: ClassVar[tuple[str, str] | None] = None
    """A queue that takes jobs and starts none, and what is said of a job in it."""
    refusals: ClassVar[tuple[Refusal, ...]]

    def jobs(self, ensemble: Ensemble) -> list[str]:
        """Jobs of the newest run that are not over."""
        raise NotImplementedError

    def cut_off(self, ensemble: Ensemble, job_id: str) -> None:
        """Cut the power of a job's first node."""
        raise NotImplementedError

    def cancel(self, ensemble: Ensemble, job_id: str) -> None:
        raise NotImplementedError

    def lose_node_of_driver(self, job_id: str) -> None:
        """Cut the power of the node of a job that may run again."""
        raise NotImplementedError

    def starts(self, job_id: str) -> int:
        """How often a job that may be over was started."""
        raise NotImplementedError

    def keep_no_history(self) -> None:
        """Forget jobs that are over, where a batch system may be so."""

    def go_away(self) -> None:
        """Answer nobody any more, where that can be had."""

    def clear(self, base: Path) -> None:
        """Leave nothing of a test behind, where the batch system outlives the tests."""


class Local(BatchSystem):
    """Two nodes' worth of this machine."""

    refusals = (Refusal({}, 22, ["999"], cpus=999),)

    def __init__(self) -> None:
        super().__init__("local", {"provider": "local", "capacity": {"cpus": 8}, "margin": 2})
        self.outlasting = Outlasting("00:00:12", 24, 2.0)

    def jobs(self, ensemble: Ensemble) -> list[str]:
        run = ensemble.runs[-1]
        return [seen.job_id for seen in asyncio.run(LocalBackend(run.spool).find(run.run_id))]

    def cut_off(self, ensemble: Ensemble, job_id: str) -> None:
        LocalBackend(ensemble.runs[-1].spool).lose_node(job_id)

    def cancel(self, ensemble: Ensemble, job_id: str) -> None:
        asyncio.run(LocalBackend(ensemble.runs[-1].spool).cancel([job_id]))


class Slurm(BatchSystem):
    """Four nodes; walltimes are whole minutes, and a node that is cut off is missed after some 16 s."""

    closed = ("closed", "'PartitionDown' (its partition is down)")
    refusals = (
        Refusal({"queue": "nowhere"}, 21, ["partition", "scripts/a0001.sh"]),
        Refusal({"queue": "debug", "walltime": "00:30:00"}, 22, ["limit", "scripts/a0001.sh"]),
    )

    def __init__(self, rig: SlurmRig) -> None:
        keys = {"provider": "slurm", "queue": "batch", "interface": rig.interface, "margin": 2}
        super().__init__("slurm", keys, env=rig.env)
        self.outlasting = Outlasting("00:01:00", 24, 12.0)
        self._rig = rig

    def jobs(self, ensemble: Ensemble) -> list[str]:
        return self._rig.run(["squeue", "-h", "-o", "%i"]).split()

    def cut_off(self, ensemble: Ensemble, job_id: str) -> None:
        self._rig.node("crash", self._rig.run(["squeue", "-h", "-O", "BatchHost", "-j", job_id]).strip())

    def cancel(self, ensemble: Ensemble, job_id: str) -> None:
        self._rig.run(["scancel", job_id])

    def lose_node_of_driver(self, job_id: str) -> None:
        """The controller is told, and misses nobody for long."""
        self._rig.node("fail", self._rig.run(["squeue", "-h", "-O", "BatchHost", "-j", job_id]).strip())

    def starts(self, job_id: str) -> int:
        return 1 + int(re.findall(r"Restarts=(\d+)", self._rig.run(["scontrol", "show", "job", job_id]))[0])

    def go_away(self) -> None:
        self._rig.daemon("kill", "slurmctld")


class Pbs(BatchSystem):
    """Four stand-in nodes; a lost one is given some time, on a real PBS 310 s, until its jobs are ended."""

    closed = ("stopped", "'Not Running: Queue not started.' (its queue takes or starts no jobs)")
    refusals = (
        Refusal({"queue": "nowhere"}, 21, ["Unknown queue"]),
        Refusal({"queue": "short", "walltime": "00:30:00"}, 22, ["Job violates queue and/or server resource limits"]),
        Refusal({}, 20, ["Can Never Run: Insufficient amount of resource"], cpus=99),
    )

    def __init__(self, rig: StandInPbs) -> None:
        keys = {"provider": "pbs", "queue": "workq", "interface": "lo", "margin": 2}
        super().__init__("pbs", keys, link_walltime="00:00:24")
        self._rig = rig
        self._settings: dict[str, Any] = {
            "nodes": {f"node{number}": Node() for number in range(1, 5)},
            "node_fail_requeue_s": 4,
            "kill_delay_s": 10,
        }
        rig.configure(**self._settings)

    def jobs(self, ensemble: Ensemble) -> list[str]:
        return self._rig.jobs()

    def cut_off(self, ensemble: Ensemble, job_id: str) -> None:
        self.lose_node_of_driver(job_id)

    def lose_node_of_driver(self, job_id: str) -> None:
        """What may not run again is ended."""
        (host,) = re.findall(r"exec_host = (\w+)", self._rig.run("qstat", "-f", job_id).stdout)
        self._rig.control("lose-node", host)

    def cancel(self, ensemble: Ensemble, job_id: str) -> None:
        assert self._rig.run("qdel", job_id).returncode == 0

    def requeue(self, job_id: str) -> None:
        """Make a running job wait and run again, as an administrator or a preemption does."""
        self._rig.control("rerun", job_id)

    def starts(self, job_id: str) -> int:
        return int(re.findall(r"run_count = (\d+)", self._rig.run("qstat", "-xf", job_id).stdout)[0])

    def keep_no_history(self) -> None:
        self._rig.configure(**self._settings, history=False)

    def go_away(self) -> None:
        self._rig.configure(**self._settings, server="down")


class ThisMachinesPbs(BatchSystem):
    """A real PBS: nothing is done to it that a user could not do."""

    refusals = (Refusal({"queue": "nosuchqueue"}, 21, ["Unknown queue"]),)

    def __init__(self, pbs: RealPbs) -> None:
        # a driver's job and two allocations fit into one node of three cpus, where there is no other
        cpus = max(1, min(2, (pbs.cpus - 1) // 2))
        super().__init__("real_pbs", {**pbs.target, "margin": 5}, cpus=cpus, link_walltime="00:05:00")
        self.outlasting = Outlasting("00:03:00", 12 * cpus, 20.0)
        self.missing_on_nodes = [name for name in ("qsub", "qstat", "qselect", "qdel") if name not in pbs.seen.commands]
        # others use it too, and it looks at its jobs every ten seconds to two minutes
        self.slowness = 20.0
        # where it keeps no history, nobody knows that a job was deleted
        self.lost = self.cancelled = frozenset({"cancelled", "failed", "completed", "unknown", None})

    def target(self, **asked: Any) -> dict[str, Any]:
        return {**super().target(**asked), "poll": 5}

    def jobs(self, ensemble: Ensemble) -> list[str]:
        return [seen.job_id for seen in asyncio.run(PbsBackend().find(ensemble.runs[-1].run_id))]

    def cut_off(self, ensemble: Ensemble, job_id: str) -> None:
        """Kill it without a warning, which is as near as a user comes."""
        subprocess.run(["qdel", "-W", "force", job_id], check=True)

    def cancel(self, ensemble: Ensemble, job_id: str) -> None:
        subprocess.run(["qdel", job_id], check=True)

    def clear(self, base: Path) -> None:
        """It goes on without us: nothing of ours may."""
        for run in list_runs(base / ".scalable" / "runs"):
            run.driver_order.unlink(missing_ok=True)
            backend = PbsBackend()
            asyncio.run(backend.cancel([seen.job_id for seen in asyncio.run(backend.find(run.run_id))]))


_KINDS: dict[str, Callable[..., BatchSystem]] = {"slurm": Slurm, "pbs": Pbs, "real_pbs": ThisMachinesPbs}
_WITH_DRIVERS = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in _KINDS]


def _made(request: pytest.FixtureRequest) -> BatchSystem:
    if request.param == "local":
        return Local()
    return _KINDS[request.param](request.getfixturevalue(request.param))


@pytest.fixture(params=["local", *_WITH_DRIVERS])
def batch_system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BatchSystem]:
    """Each batch system in turn, whole and calm."""
    system = _made(request)
    yield system
    system.clear(tmp_path)


@pytest.fixture(params=_WITH_DRIVERS)
def chain_system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BatchSystem]:
    """Each of those whose jobs drivers can be."""
    system = _made(request)
    if isinstance(system, ThisMachinesPbs) and (missing := system.missing_on_nodes):
        pytest.skip(f"a driver's job of this PBS finds no {', '.join(missing)} on its PATH")
    yield system
    system.clear(tmp_path)
