"""One link: the process that a driver's batch job is. It runs the script, warns it in time, and sees to what follows.

Rule 1: the successor is in the queue before the script begins, so that a link that is killed is followed all the same.
Rule 2: what follows is decided in ``decide``; here it is only done and written down.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from scalable_hpc.backends import backend_for_orphans
from scalable_hpc.chain.book import BEGAN, DONE, ENDED, STOPPED, SUBMITTED, Book, Entry, Order, results_of
from scalable_hpc.chain.decide import Follows, LinkFacts, Step, what_follows
from scalable_hpc.chain.opening import cancel_links, manifest_of, submit_link
from scalable_hpc.chain.outlook import observe, outlooks
from scalable_hpc.confidential import remove_secrets
from scalable_hpc.errors import BatchSilent, ScalableError
from scalable_hpc.lineage.lease import BEAT_S, STALE_S, lives, read_holder
from scalable_hpc.runs import RunDirectory
from scalable_hpc.sweep import sweep_run
from scalable_hpc.worker.deadline import Deadline, decide_deadline, gather_sources

FAILED = 1
_TRIES = 3
"""Of one link that the batch system requeues again and again; as many in vain end the chain."""
_LOOK_EVERY_S = 5.0
_REREAD_EVERY_S = 300.0
"""Administrators extend limits of running jobs; their batch system is not to be bothered more often than that."""


class Link:
    """One batch job of a chain."""

    def __init__(self, run: RunDirectory, number: int, environ: dict[str, str]) -> None:
        self._run = run
        self._number = number
        self._environ = environ
        self._order = Order.read(run)
        self._manifest = manifest_of(run)
        self._book = Book(run)
        self._job_id = environ.get("SLURM_JOB_ID") or environ.get("PBS_JOBID") or ""
        self._began_at = time.time()
        self._child: subprocess.Popen[bytes] | None = None
        self._is_warned = threading.Event()
        self._deadline: Deadline | None = None

    def go(self) -> int:
        """Run the script and return the job's exit code."""
        before = results_of(self._run)
        step = self._look_back(before)
        if step is not None and step.follows is Follows.STOP:
            return self._stop(step)
        self._note(BEGAN, results=before)
        self._submit_successor()
        exit_code = self._run_script()
        step = what_follows(self._facts(exit_code, results_of(self._run) - before, time.time() - self._began_at))
        if step.follows is Follows.NEXT and not self._run.is_chained:
            step = Step(Follows.STOP, "it was cancelled by its user")
        self._note(ENDED, step.because)
        _say(f"link {self._number}: {step.because}")
        if step.follows is Follows.NEXT:
            self._submit_successor()  # once more, if it was refused before
            step = self._as_the_successor_stands(step)
        if step.follows is Follows.STOP:
            return self._stop(step)
        if step.follows is Follows.NOTHING:
            self._give_up_successor()
            self._note(DONE, step.because)
            self._run.driver_order.unlink(missing_ok=True)
            remove_secrets(self._run)
        return 0

    def warn(self, because: str) -> None:
        """Tell the script that its time is over; once."""
        if self._is_warned.is_set():
            return
        self._is_warned.set()
        _say(f"link {self._number}: ends the script: {because}")
        self._pass_on()

    def _take_warning(self) -> None:
        """Heed the batch system's warning where nothing better is known: Slurm may send it a minute early."""
        if self._deadline is None or self._deadline.at is None:
            self.warn("SIGUSR1 came")

    def _pass_on(self) -> None:
        child = self._child
        if child is not None and self._is_warned.is_set():
            with suppress(OSError):
                child.send_signal(signal.SIGUSR1)

    def _facts(self, exit_code: int | None, gained: int, ran_s: float, number: int | None = None) -> LinkFacts:
        order = self._order
        return LinkFacts(number or self._number, order.max_links, order.is_chain, exit_code, gained, ran_s)

    def _look_back(self, results: int) -> Step | None:
        """Judge the link before, if it could not say anything itself; or this one, where it was requeued in vain."""
        own = [entry for entry in self._book if entry.what == BEGAN and entry.link == self._number]
        if len(own) >= _TRIES:
            first = own[-_TRIES]
            return what_follows(self._facts(None, results - first.results, self._began_at - first.at))
        began = self._book.last(BEGAN, self._number - 1)
        if own or began is None or self._book.last(ENDED, self._number - 1) is not None:
            return None
        ran_s = self._began_at - began.at
        return what_follows(self._facts(None, results - began.results, ran_s, number=self._number - 1))

    def _run_script(self) -> int:
        order = self._order
        command = [order.python, "-m", "scalable_hpc.cli", "run", "--no-progress", "--run", self._run.run_id]
        command += ["--manifest", str(self._manifest.path), "--target", self._manifest.target.name]
        command += [order.script, "--", *order.arguments]
        environ = {**self._environ, "SCALABLE_HPC_RUNS_DIR": str(self._run.path.parent)}
        # before the child is born, which would be deaf to what is ignored here
        signal.signal(signal.SIGTERM, lambda *_: self.warn("SIGTERM came"))
        signal.signal(signal.SIGUSR1, lambda *_: self._take_warning())
        self._wait_for_the_former_driver()
        self._child = subprocess.Popen(command, cwd=order.directory, env=environ)
        self._pass_on()
        watch = threading.Thread(target=self._watch_the_clock, name="scalable-hpc-deadline", daemon=True)
        watch.start()
        return _wait(self._child)

    def _wait_for_the_former_driver(self) -> None:
        """Wait, a minute at most, until a driver that was lost with its node has certainly stopped writing."""
        until = time.time() + STALE_S + BEAT_S
        is_told = False
        while (now := time.time()) < until and not self._is_warned.is_set():
            holder = read_holder(self._run.path)
            if holder is None or not lives(holder, now):
                return
            if not is_told:
                _say(f"link {self._number}: waits until nothing is heard of {holder}, the run's last driver, any more")
            is_told = True
            self._is_warned.wait(1.0)

    def _watch_the_clock(self) -> None:
        """Warn the script in time; administrators may move the end meanwhile, so it is asked for again."""
        look = partial(gather_sources, self._environ, started_at=self._began_at, walltime_s=self._order.walltime_s)
        deadline = self._deadline = decide_deadline(look(rereads=False))
        asked_at = time.time()
        while deadline.at is not None and (left := deadline.at - self._order.lead_s - time.time()) > 0:
            if self._is_warned.wait(min(left, _LOOK_EVERY_S)):
                return
            if time.time() - asked_at > _REREAD_EVERY_S:
                deadline, asked_at = decide_deadline(look(rereads=True)), time.time()
                self._deadline = deadline
        if deadline.at is not None:
            self.warn(f"{max(0.0, deadline.at - time.time()):.0f} s before the end of its job ({deadline.because})")

    def _submit_successor(self) -> None:
        successor = self._number + 1
        if not self._order.is_chain or successor > self._order.max_links:
            return
        if self._book.last(SUBMITTED, successor) is not None:
            return
        try:
            submit_link(self._manifest, self._run, self._order, successor, after=self._job_id or None)
        except ScalableError as error:
            _say(f"link {successor} could not be submitted, is tried again at the end: {error}")

    def _as_the_successor_stands(self, step: Step) -> Step:
        """Stop a chain whose next link will never run; tell what else is in its way, as nobody else will."""
        number = self._number + 1
        waiting = self._book.last(SUBMITTED, number)
        if waiting is None or not waiting.job_id:
            return step
        try:
            seen = observe(self._manifest, self._run, [waiting.job_id])
        except BatchSilent:
            return step
        outlook = outlooks(self._manifest, seen).get(waiting.job_id)
        if outlook is not None and outlook.never:
            return Step(Follows.STOP, f"link {number} (job {waiting.job_id}) cannot follow: {outlook}")
        if outlook is not None and outlook.stuck:
            _say(f"link {number} (job {waiting.job_id}) waits: {outlook}")
        return step

    def _give_up_successor(self) -> None:
        waiting = self._book.last(SUBMITTED, self._number + 1)
        if waiting is not None and waiting.job_id:
            with _told("the next link could not be cancelled"):
                cancel_links(self._manifest, self._run, [waiting.job_id])

    def _stop(self, step: Step) -> int:
        """End the chain: nothing follows, nothing is left behind, and the reason is written down."""
        self._give_up_successor()
        self._note(STOPPED, step.because)
        self._run.driver_order.unlink(missing_ok=True)
        with _told("what the driver left could not be cancelled"):
            asyncio.run(sweep_run(self._run, partial(backend_for_orphans, self._manifest.target)))
        hint = f"scalable-hpc submit --run {self._run.run_id} {self._order.script}"
        _say(f"the chain stops: {step.because}\n  -> go on with it: {hint}")
        return FAILED

    def _note(self, what: str, because: str = "", *, results: int = 0) -> None:
        self._book.note(Entry(self._number, what, time.time(), because, self._job_id or None, results))


@contextmanager
def _told(words: str) -> Iterator[None]:
    """Go on after an error of ours, which is told."""
    try:
        yield
    except ScalableError as error:
        _say(f"{words}: {error}")


def _wait(child: subprocess.Popen[bytes]) -> int:
    while True:
        with suppress(InterruptedError):
            return child.wait()


def _say(words: str) -> None:
    print(f"scalable-hpc: {words}", file=sys.stderr, flush=True)  # noqa: T201 - the job's own output
