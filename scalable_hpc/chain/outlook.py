"""What the batch system says of a driver's job that does not run: why it waits, and whether for ever.

Rule 1: the words are the batch system's; ours stand beside them, in brackets.
Rule 2: who asks is never kept waiting: a batch system that does not answer in time has said nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from scalable_hpc.backends import batch_system, never_runs_on, stuck_on
from scalable_hpc.config.resolved import ResolvedManifest
from scalable_hpc.errors import BatchSilent
from scalable_hpc.model.allocations import JobObservation, JobState
from scalable_hpc.model.units import format_time
from scalable_hpc.runs import RunDirectory

ANSWER_WITHIN_S = 15.0
"""Of a batch system that is asked by the way."""
FIRST_WORD_WITHIN_S = 5.0
"""A scheduler that is not busy has looked at a new job by then; others take a cycle of minutes."""
_LOOK_EVERY_S = 1.0
_WAITING = (JobState.PENDING, JobState.HELD)

WhyOf = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Outlook:
    """A job that waits."""

    job_id: str
    words: str
    """The batch system's reason; empty: it has given none yet."""
    never: str | None = None
    """Why it will never run; None: it may."""
    stuck: str | None = None
    """Why it has no turn in the queue until somebody does something; None: it has."""
    starts_at: float | None = None
    """When the batch system thinks that it will start (seconds since the epoch)."""

    def __str__(self) -> str:
        """Say why it waits, and what that means."""
        meaning = f"it will never run: {self.never}" if self.never else self.stuck
        starts = f"expected to start at {format_time(self.starts_at)}" if self.starts_at is not None else None
        told = ", ".join(filter(None, (meaning, starts)))
        words = f"'{self.words}'" if self.words else "no reason given yet"
        return f"{words} ({told})" if told else words


def read_outlook(seen: JobObservation, never_runs: WhyOf, stuck: WhyOf) -> Outlook | None:
    """Return what an observation says of a job that waits; None: it does not wait. Pure."""
    if seen.state not in _WAITING:
        return None
    words = seen.because or (seen.raw if seen.state is JobState.HELD else "")
    return Outlook(seen.job_id, words, never_runs(words), stuck(words), seen.expected_start)


def outlooks(manifest: ResolvedManifest, seen: Mapping[str, JobObservation]) -> dict[str, Outlook]:
    """Return those of the jobs that wait, by id."""
    never_runs, stuck = never_runs_on(manifest.target), stuck_on(manifest.target)
    read = {job_id: read_outlook(one, never_runs, stuck) for job_id, one in seen.items()}
    return {job_id: outlook for job_id, outlook in read.items() if outlook is not None}


def observe(manifest: ResolvedManifest, run: RunDirectory, job_ids: Sequence[str]) -> Mapping[str, JobObservation]:
    """Ask about jobs, once.

    Raises:
        BatchSilent: no answer within ``ANSWER_WITHIN_S``.
    """
    if not job_ids:
        return {}
    with ThreadPoolExecutor(1) as thread:  # its own loop: whoever asks may have one that runs
        return thread.submit(asyncio.run, _observe(manifest, run, job_ids)).result()


def first_word(
    manifest: ResolvedManifest, run: RunDirectory, job_id: str, within_s: float = FIRST_WORD_WITHIN_S
) -> Outlook | None:
    """Watch a new job until it runs, or until it is known that something is in its way, or for ``within_s``.

    Returns:
        What is known of it while it waits; None: it does not wait, or nobody answers.
    """

    async def watch() -> Outlook | None:
        loop = asyncio.get_running_loop()
        until = loop.time() + within_s
        while True:
            seen = await _observe(manifest, run, [job_id])
            found = outlooks(manifest, seen).get(job_id)
            if found is None or found.stuck or loop.time() + _LOOK_EVERY_S > until:
                return found
            await asyncio.sleep(_LOOK_EVERY_S)

    try:
        return asyncio.run(watch())
    except BatchSilent:
        return None


async def _observe(
    manifest: ResolvedManifest, run: RunDirectory, job_ids: Sequence[str]
) -> Mapping[str, JobObservation]:
    try:
        return await asyncio.wait_for(batch_system(manifest.target, run).status(job_ids), ANSWER_WITHIN_S)
    except asyncio.TimeoutError:
        raise BatchSilent(f"no answer about jobs {', '.join(job_ids)} within {ANSWER_WITHIN_S:g} s") from None
