"""The daemons on the head: munged, mariadbd, slurmdbd, slurmctld, started in this order.

Rule 1: ``start`` returns when the daemon answers, and does nothing where it runs already.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

from tests.rig import config
from tests.rig.commands import Commands
from tests.rig.packages import PATH
from tests.rig.processes import Processes, wait_until
from tests.rig.settings import RigError, Settings

NODE = ("munged",)
CONTROLLER = ("munged", "slurmctld")
ACCOUNTING = ("munged", "mariadbd", "slurmdbd")
HEAD = (*ACCOUNTING, "slurmctld")


class Daemons:
    """The head's daemons."""

    def __init__(
        self,
        settings: Settings,
        machine: config.Machine,
        processes: Processes,
        commands: Commands,
        names: tuple[str, ...] | None = None,
    ) -> None:
        """``names``: those that run on this machine, where the head is more than one."""
        self._settings = settings
        self._machine = machine
        self._processes = processes
        self._commands = commands
        self._root = settings.root
        self.names = names or (HEAD if settings.accounting else CONTROLLER)
        """In the order in which they start."""

    def start(self) -> None:
        """Start what does not run."""
        starters = {
            "munged": self._start_munged,
            "mariadbd": self._start_mariadbd,
            "slurmdbd": self._start_slurmdbd,
            "slurmctld": self._start_slurmctld,
        }
        for name in self.names:
            if self._processes.pid(name) is None:
                starters[name]()
            if name == "slurmdbd":
                self._define_accounts()

    def stop(self) -> None:
        """Stop all, the last started first."""
        for name in reversed(self.names):
            pid = self._processes.pid(name)
            if pid is not None:
                os.kill(pid, signal.SIGCONT)  # a test may have stopped it, and then it cannot end
            self._processes.stop(name, seconds=20)

    def _start_munged(self) -> None:
        secret, public = self._private("munge"), self._root / "run/munge"
        public.mkdir(exist_ok=True)
        public.chmod(0o711)
        key, socket = secret / "key", Path(config.munge_socket(self._settings))
        if not key.exists():
            _make_key(key)
        for left_over in public.glob("socket*"):
            left_over.unlink()
        files = {"key-file": key, "socket": socket, "pid-file": public / "pid"}
        files |= {"log-file": secret / "log", "seed-file": secret / "seed"}
        options = [f"--{name}={path}" for name, path in files.items()]
        self._processes.launch("munged", ["munged", "--foreground", "--num-threads=4", *options])
        self._processes.wait_ready("munged", lambda: self._answers("munge", "-S", str(socket), "-s", "x"), 20)

    def _start_mariadbd(self) -> None:
        data, sockets = self._private("mysql"), self._private("run/mysql")
        small = ["--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M", "--innodb-flush-log-at-trx-commit=0"]
        if not (data / ".ready").exists():
            self._create_database(data, small)
        options = [
            "--no-defaults",
            f"--user={self._machine.user}",
            f"--datadir={data}",
            f"--socket={sockets}/socket",
            f"--pid-file={sockets}/pid",
            # A socket in a private directory is the only way in: so no passwords either.
            "--skip-networking",
            "--skip-grant-tables",
            "--skip-name-resolve",
            "--skip-log-bin",
            "--innodb-doublewrite=0",
            "--innodb-lock-wait-timeout=900",  # slurmdbd insists
            "--performance-schema=0",
            "--key-buffer-size=1M",
            "--aria-pagecache-buffer-size=8M",
            "--max-connections=40",
            f"--log-error={self._root}/log/mariadbd.log",
        ]
        self._processes.launch("mariadbd", ["mariadbd", *options, *small])
        ask = ("mariadb", "--no-defaults", f"--socket={sockets}/socket", "-e", "select 1")
        self._processes.wait_ready("mariadbd", lambda: self._answers(*ask), 60)

    def _create_database(self, data: Path, small: list[str]) -> None:
        shutil.rmtree(data)
        self._private("mysql")
        done = subprocess.run(
            [
                "mariadb-install-db",
                "--no-defaults",
                f"--user={self._machine.user}",
                f"--datadir={data}",
                "--skip-test-db",
                "--auth-root-authentication-method=normal",
                "--skip-name-resolve",
                *small,
            ],
            env={"PATH": PATH},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            raise RigError(f"mariadb-install-db failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        (data / ".ready").touch()

    def _start_slurmdbd(self) -> None:
        socket = {"MYSQL_UNIX_PORT": f"{self._root}/run/mysql/socket"}
        self._processes.launch("slurmdbd", ["slurmdbd", "-D"], environment=socket)
        self._processes.wait_ready("slurmdbd", self._has_accounting, 60)

    def _define_accounts(self) -> None:
        wanted, marker = config.accounts(self._settings, self._machine), self._root / "state/accounts"
        if marker.exists() and marker.read_text() == wanted:
            return
        # Its exit code says nothing: to add what is there already is an error to it.
        told = self._commands.attempt(["sacctmgr", "-iQ"], stdin=wanted)
        user = self._machine.user
        chosen = ["where", f"Cluster={self._settings.cluster}", f"User={user}", "Account=science"]
        rows = self._commands.run(["sacctmgr", "-nP", "show", "assoc", *chosen, "format=account,user,qos"]).strip()
        if rows != f"science|{user}|{','.join(sorted(config.QOS))}":
            raise RigError(f"the accounts were not set up: {rows!r}\n{told.stdout[-2000:]}{told.stderr[-2000:]}")
        marker.write_text(wanted)

    def _start_slurmctld(self) -> None:
        if self._settings.accounting and "slurmdbd" not in self.names:
            # On another machine, which starts at the same time: a controller that does not find it gives up.
            accounts = self._root / "state/accounts"
            wait_until(lambda: accounts.exists() and self._has_accounting(), "slurmdbd to answer", 120)
        # Without -i a controller that has no state yet insists on some.
        first = [] if (self._root / "state/job_state").exists() else ["-c", "-i"]
        self._processes.launch("slurmctld", ["slurmctld", "-D", *first])
        self._processes.wait_ready("slurmctld", lambda: self._answers("scontrol", "ping"), 60)

    def _has_accounting(self) -> bool:
        return self._answers("sacctmgr", "-n", "show", "cluster")

    def _private(self, name: str) -> Path:
        directory = self._root / name
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return directory

    def _answers(self, *argv: str) -> bool:
        return self._commands.answers(argv) is not None


def _make_key(key: Path) -> None:
    """Make the one secret that all machines share; of several that start together, the first one makes it."""
    aside = key.with_name(f"key-{secrets.token_hex(4)}")
    aside.touch(0o600)
    aside.write_bytes(secrets.token_bytes(128))
    with contextlib.suppress(FileExistsError):
        os.link(aside, key)
    aside.unlink()
