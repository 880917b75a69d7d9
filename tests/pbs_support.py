"""PBS for tests: the stand-ins of ``tests/standins``, and a real one where ``--pbs`` says so.

``pbs`` is a stand-in of this test's own: a server, two nodes of four cpus, its commands first on PATH. ``real_pbs`` is
the PBS whose ``qsub`` is on PATH; tests that want it are left out without ``--pbs``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.pbs_probe import Seen, Unfit, home, look
from tests.standins.pbs_settings import write_settings
from tests.waiting import wait_until

COMMANDS = ("qsub", "qstat", "qselect", "qdel", "pbsnodes", "pbsdsh")
_HERE = Path(__file__).parent
_REAL_TIMEOUT_S = 3600


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pbs")
    group.addoption("--pbs", action="store_true", help="run the laws of batch systems on the PBS of this machine too")
    group.addoption("--pbs-queue", help="its queue to use (default: its own default)")
    group.addoption("--pbs-account", help="the account to charge (default: none)")
    group.addoption("--pbs-interface", help="network between here and its nodes (default: the first that they reach)")
    group.addoption("--pbs-directory", help="where tests work; its nodes must see it (default: below your home)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "pbs" in getattr(item, "fixturenames", ()):
            item.add_marker("pbs")
        if item.get_closest_marker("real_pbs"):  # whatever the test's own limit is, which is for machines of ours
            item.add_marker(pytest.mark.timeout(_REAL_TIMEOUT_S), append=False)
    if config.getoption("--pbs"):
        return
    left_out = [item for item in items if item.get_closest_marker("real_pbs")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("real_pbs")]


class StandInPbs:
    """A stand-in PBS in a directory of its own."""

    def __init__(self, state: Path) -> None:
        self.state = state
        (state / "bin").mkdir(parents=True)
        for name in COMMANDS:
            (state / "bin" / name).symlink_to(_HERE / "standins" / "pbs_command.py")
        self._daemon: subprocess.Popen[bytes] | None = None

    @property
    def env(self) -> dict[str, str]:
        """What a user's shell has who has loaded PBS."""
        return {"PATH": f"{self.state / 'bin'}:{os.environ['PATH']}"}

    def up(self) -> None:
        """Start the server."""
        with (self.state / "server.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [sys.executable, "-m", "tests.standins.pbs_server", str(self.state)],
                cwd=_HERE.parent,
                env={**os.environ, "PYTHONPATH": str(_HERE.parent)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until("the stand-in server to listen", self._listens, timeout=20, every=0.02)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as line:
            line.connect(str(self.state / "socket"))
            return True
        return False

    def configure(self, **settings: object) -> None:
        """Set modes (``Settings``); what is not named is as it was at the start."""
        write_settings(self.state / "settings.json", **settings)

    def control(self, *words: str) -> None:
        """Do what no user can: ``lose-node N``, ``repair-node N``, ``rerun ID``, ``suspend ID``, ``resume ID``."""
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(self.state / "socket"))
            line.sendall(json.dumps({"command": "control", "argv": words}).encode())
            line.shutdown(socket.SHUT_WR)
            assert json.loads(line.makefile().read())["rc"] == 0

    def run(self, *argv: str, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run one of its commands, by default where the output of jobs, which PBS puts there, is in nobody's way."""
        return subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            cwd=cwd or self.state,
            env={**os.environ, **self.env},
        )

    def jobs(self) -> list[str]:
        """Ids of jobs that are not over."""
        return self.run("qselect").stdout.split()

    def down(self) -> None:
        """End the server and everything that it runs."""
        if self._daemon is not None:
            self._daemon.terminate()
            self._daemon.wait(20)
            assert (self.state / "server.log").read_text() == "", "the stand-in stumbled"


@pytest.fixture
def pbs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInPbs]:
    """A stand-in PBS, whole and calm; its commands are ready for this process and its children."""
    rig = StandInPbs(tmp_path_factory.mktemp("pbs") / "state")
    rig.up()
    for name, value in rig.env.items():
        monkeypatch.setenv(name, value)
    yield rig
    rig.down()


@dataclass(frozen=True)
class RealPbs:
    """The PBS of this machine, and what it must be asked with."""

    queue: str | None
    account: str | None
    seen: Seen

    @property
    def options(self) -> list[str]:
        """Options for qsub."""
        return _options(self.queue, self.account)

    @property
    def target(self) -> dict[str, str]:
        """Keys of a manifest's target."""
        keys = {"queue": self.queue, "account": self.account, "interface": self.seen.interface}
        return {"provider": "pbs", **{key: value for key, value in keys.items() if value}}

    @property
    def cpus(self) -> int:
        return self.seen.cpus


def _options(queue: str | None, account: str | None) -> list[str]:
    return [f"-{letter} {value}" for letter, value in (("q", queue), ("A", account)) if value]


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where a real PBS is tried, a directory that its nodes see too."""
    if request.node.get_closest_marker("real_pbs") is None:
        return tmp_path
    return Path(tempfile.mkdtemp(prefix="test-", dir=request.getfixturevalue("seen_directory")))


@pytest.fixture(scope="session")
def seen_directory(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The session's own directory on the nodes' file system; it stays where a test has failed in it."""
    option = request.config.getoption
    base = option("--pbs-directory") or option("basetemp") or home()
    Path(base).mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix="scalable-hpc-tests-", dir=base))
    yield made
    if not request.session.testsfailed:
        shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def real_pbs(request: pytest.FixtureRequest, seen_directory: Path) -> RealPbs:
    """The PBS of this machine, looked at with a job of its own first."""
    option = request.config.getoption
    queue, account = option("--pbs-queue"), option("--pbs-account")
    try:
        seen = look(seen_directory, _options(queue, account), option("--pbs-interface"))
    except Unfit as err:
        pytest.fail(f"--pbs, but this PBS cannot be tried: {err}", pytrace=False)
    return RealPbs(queue, account, seen)
