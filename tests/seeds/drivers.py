"""Drivers of these tests: laid out in a directory of their own, run as a user runs them, looked at afterwards."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from scalable_hpc.lineage.journal import read_events
from scalable_hpc.model.events import AttemptFailed, AttemptPlaced, Event, ReceiptTaken, TaskSubmitted
from scalable_hpc.runs import RunDirectory, list_runs
from tests.pages import Page, environment

HERE = Path(__file__).parent
GIVEN = "given.py"
_INSTALLED = Path(sys.executable).with_name("scalable-hpc")
COMMAND = (str(_INSTALLED),) if _INSTALLED.exists() else (sys.executable, "-m", "scalable_hpc.cli")
"""``scalable-hpc``, of the interpreter that runs the tests."""
_SECTION = re.compile(r"^## (?P<title>.+)$", re.MULTILINE)


def quoted(title: str) -> list[str]:
    """The code blocks of the tutorial's section whose title begins so."""
    page = Page(HERE / "tutorial_7.txt")
    starts = [(page.text.count("\n", 0, match.start()), match["title"]) for match in _SECTION.finditer(page.text)]
    begin, end = next(
        (line, starts[number + 1][0] if number + 1 < len(starts) else sys.maxsize)
        for number, (line, name) in enumerate(starts)
        if name.startswith(title)
    )
    return [block.text for block in page.of("python") if begin < block.line <= end]


@dataclass(frozen=True)
class TaskStory:
    """What the journal tells of one task."""

    label: str
    placed: list[AttemptPlaced]
    failed: list[AttemptFailed]
    receipts: list[ReceiptTaken]


@dataclass(frozen=True)
class RunStory:
    """One run of a driver."""

    directory: RunDirectory

    @cached_property
    def events(self) -> list[Event]:
        return list(read_events(self.directory.journal))

    @cached_property
    def tasks(self) -> dict[str, TaskStory]:
        """By label: ``f(3)``. A label that was submitted twice has the events of both."""
        labels = {event.task_id: event.label for event in self.events if isinstance(event, TaskSubmitted)}
        found = {label: TaskStory(label, [], [], []) for label in labels.values()}
        for event in self.events:
            if isinstance(event, AttemptPlaced):
                found[labels[event.task_id]].placed.append(event)
            elif isinstance(event, AttemptFailed):
                found[labels[event.task_id]].failed.append(event)
            elif isinstance(event, ReceiptTaken):
                found[labels[event.task_id]].receipts.append(event)
        return found

    def of_kind(self, *kinds: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kinds)]


@dataclass(frozen=True)
class Lived:
    """A driver that has ended."""

    directory: Path
    finished: subprocess.CompletedProcess[str]

    @property
    def lines(self) -> list[str]:
        return self.finished.stdout.splitlines()

    def said(self, what: str) -> Any:
        """The fact that the driver printed under this name."""
        found = [line.removeprefix(f"{what} = ") for line in self.lines if line.startswith(f"{what} = ")]
        assert found, f"the driver did not say {what!r}\n{self.finished.stdout}\n{self.finished.stderr}"
        return json.loads(found[-1])

    @cached_property
    def runs(self) -> list[RunStory]:
        """Oldest first."""
        return [RunStory(run) for run in list_runs(self.directory / ".scalable" / "runs")]

    @property
    def executions(self) -> Counter[str]:
        """How often each function was executed with each number: ``f 3``."""
        log = self.directory / "executions.log"
        return Counter(log.read_text().splitlines() if log.exists() else ())

    def report(self, *arguments: str) -> str:
        """What ``scalable-hpc report`` prints here."""
        return run_here((*COMMAND, "report", *arguments), self.directory).stdout


def run_here(words: Sequence[str], directory: Path, *, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; one that fails fails the test with what it said."""
    finished = subprocess.run(
        words, cwd=directory, env=environment(directory), capture_output=True, text=True, timeout=timeout, check=False
    )
    assert finished.returncode == 0, f"{finished.stdout}\n{finished.stderr}"
    return finished


@contextmanager
def all_at_once(
    request: pytest.FixtureRequest, directories: pytest.TempPathFactory, stories: Mapping[str, Callable[[Path], Any]]
) -> Iterator[dict[str, Future[Any]]]:
    """Run those stories that are fixtures of the chosen tests of a module together: most of their time is waiting."""
    here = [item for item in request.session.items if item.path == request.path]
    wanted = {name for item in here for name in getattr(item, "fixturenames", ())}
    with ThreadPoolExecutor(len(stories)) as threads:
        yield {
            name: threads.submit(story, directories.mktemp(name)) for name, story in stories.items() if name in wanted
        }


def lay_out(directory: Path, *parts: str) -> Path:
    """Write manifest and driver: ``given.py`` and these parts as one script."""
    shutil.copy(HERE / "scalable.yaml", directory)
    driver = directory / "driver.py"
    driver.write_text("\n".join([(HERE / GIVEN).read_text(), *parts]))
    return driver


def lay_out_beside(directory: Path, name: str) -> Path:
    """Write manifest and a driver of ours, with ``given.py`` beside it as a module."""
    for each in ("scalable.yaml", GIVEN, name):
        shutil.copy(HERE / each, directory)
    return directory / name


def live(driver: Path) -> Lived:
    """Run a driver to its end."""
    return Lived(driver.parent, run_here((sys.executable, driver.name), driver.parent))
