"""pytest and the real Slurm: the ``slurm`` fixture, what happens where there is none, and what is said about it.

A test that asks for ``slurm``, or is marked with it, gets a whole and calm cluster. The first one starts the cluster,
the end of the session takes it away again (SCALABLE_HPC_RIG_KEEP=1: it stays, and the next session starts at once).
Rule 1: a test that was left out is named at the end, with the reason; ``--require-slurm`` makes the reason an error.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from tests.rig.cluster import SlurmRig
from tests.rig.processes import locked
from tests.rig.settings import RigError, Settings

# Those below are for people at a shell: no test ever resets their clusters.
TEST_INSTANCES = range(10, 100)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("slurm")
    group.addoption("--require-slurm", action="store_true", help="fail where no real Slurm can be had, do not skip")
    group.addoption("--rig-root", help="use the cluster that runs below this directory, and leave it running")
    group.addoption("--rig-instance", type=int, help="the instance of tests/rig to use (default: a free one from 10)")


@pytest.hookimpl(tryfirst=True)  # before -m selects by mark
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "slurm" in getattr(item, "fixturenames", ()):
            item.add_marker("slurm")
        if item.get_closest_marker("slurm") and config.pluginmanager.has_plugin("timeout"):
            # The limit is the test's: installing and starting Slurm has limits of its own.
            own = item.get_closest_marker("timeout")
            seconds = own.args[0] if own and own.args else float(config.getini("timeout") or 0)
            item.add_marker(pytest.mark.timeout(seconds, func_only=True), append=False)


@pytest.fixture(autouse=True)
def _slurm_where_marked(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("slurm"):
        request.getfixturevalue("slurm")


@pytest.fixture
def slurm(slurm_cluster: SlurmRig, monkeypatch: pytest.MonkeyPatch) -> SlurmRig:
    """A whole and calm cluster; its commands are ready for this process and its children."""
    slurm_cluster.reset()
    for name, value in slurm_cluster.env.items():
        monkeypatch.setenv(name, value)
    return slurm_cluster


@pytest.fixture(scope="session")
def slurm_cluster(request: pytest.FixtureRequest) -> Iterator[SlurmRig]:
    """The session's cluster; tests want ``slurm``, which resets it first."""
    named = request.config.getoption("--rig-instance")
    root = request.config.getoption("--rig-root")
    with contextlib.ExitStack() as stack:
        with _or_left_out(request):
            rig = stack.enter_context(_reserved(named)) if root is None else SlurmRig(directory=root)
            found_running = rig.is_running()
            rig.up()
        yield rig
        keep = os.environ.get("SCALABLE_HPC_RIG_KEEP") == "1"
        if not keep and not (found_running and (named is not None or root is not None)):
            rig.down(purge=True)


@pytest.fixture
def slurm_without_accounting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmRig]:
    """A small cluster of the test's own where sacct only says that it is disabled, and jobs are soon forgotten."""
    with contextlib.ExitStack() as stack:
        with _or_left_out(request):
            rig = stack.enter_context(_reserved(None, accounting=False, nodes=2, extra_conf="MinJobAge=2\n"))
            rig.up()
        for name, value in rig.env.items():
            monkeypatch.setenv(name, value)
        try:
            yield rig
        finally:
            rig.down(purge=True)


@contextlib.contextmanager
def _or_left_out(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave the test out, or let it fail, where no cluster can be started."""
    try:
        yield
    except (RigError, OSError) as err:
        leave_out = pytest.fail if request.config.getoption("--require-slurm") else pytest.skip
        leave_out(f"no real Slurm here: {err}")


@contextlib.contextmanager
def _reserved(named: int | None, **settings: Any) -> Iterator[SlurmRig]:
    """A rig that no other test session on this machine uses meanwhile."""
    for instance in TEST_INSTANCES if named is None else [named]:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(Settings(instance=instance).root / "session.lock", seconds=0))
            except (RigError, OSError):  # another session's, or another user's
                if named is not None:
                    raise
                continue
            yield SlurmRig(instance=instance, **settings)
            return
    raise RigError(f"all instances from {TEST_INSTANCES.start} on are in use")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    rig = getattr(item, "funcargs", {}).get("slurm")
    if call.when == "call" and report.failed and rig is not None:
        report.sections.append(("Slurm when the test failed", rig.picture()))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    left_out: dict[str, list[str]] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        left_out.setdefault(reason.removeprefix("Skipped: "), []).append(report.nodeid)
    if left_out:
        terminalreporter.section("tests that were left out", sep="=", yellow=True)
    for reason, tests in left_out.items():
        terminalreporter.line(f"{len(tests)} because: {reason}")
        for test in tests:
            terminalreporter.line(f"    {test}")
