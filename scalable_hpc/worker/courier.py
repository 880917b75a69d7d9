"""Takes bundles in, has slots carry them out, makes results durable, and reports.

``verbs`` has what the driver calls here.

Rule 1: user code, arguments and results stay bytes here; nothing of them is unpickled in this process.
Rule 2: nothing here blocks the event loop, so that a heartbeat tells a living node.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from scalable_hpc.model.messages import Bundle, Envelope, Holding
from scalable_hpc.model.tasks import AttemptId, Ending, Evidence, Receipt
from scalable_hpc.worker import outcomes, wire
from scalable_hpc.worker import recorder as lines
from scalable_hpc.worker.handles import Doom, Lease, Slot
from scalable_hpc.worker.holdings import Holdings
from scalable_hpc.worker.options import WorkerOptions
from scalable_hpc.worker.outcomes import Outcome
from scalable_hpc.worker.outlook import OutlookBoard
from scalable_hpc.worker.publisher import Publisher, Result
from scalable_hpc.worker.recorder import Recorder
from scalable_hpc.worker.reporter import Post, Reporter
from scalable_hpc.worker.roll_call import RollCall
from scalable_hpc.worker.shares import seats_needed
from scalable_hpc.worker.slots import SlotPool
from scalable_hpc.worker.trip import Running, Settled, Trip

CANCELLED_KEPT = 100_000
"""Attempts that were cancelled before they came here are turned away when they do; the oldest are forgotten."""

LAUNCHER_TELLS_WITHIN_S = 1.0
"""A job's processes are signalled one after another; the launcher needs a moment to pass the word on."""

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Load:
    """A bundle that is being carried."""

    key: str
    unreported: set[AttemptId]


class Courier:
    """One worker's attempts; every method may be called from any thread.

    Args:
        roll_call: asks which of the nodes of its tasks are gone; None: they have but this one.
        leave: ends this worker when it has nothing left in hand.
        end_orphans: ends what the family of a dead slot has left on other nodes; None: there is no way to.
    """

    def __init__(
        self,
        options: WorkerOptions,
        pool: SlotPool,
        recorder: Recorder,
        reporter: Reporter,
        roll_call: RollCall | None = None,
        leave: Callable[[str], None] = lambda _: None,
        end_orphans: Callable[[], None] | None = None,
    ) -> None:
        self._options = options
        self._roll_call = roll_call
        self._leave = leave
        self._end_orphans = end_orphans
        self._pool = pool
        self._recorder = recorder
        self._reporter = reporter
        self._lock = threading.Condition()
        self._loads: set[_Load] = set()
        self._storing = 0
        """How many times held results are being stored now."""
        self._running: dict[str, Running] = {}
        """By the token of the slot."""
        self._leases: dict[str, Lease] = {}
        """By the token of the slot; another bundle's as soon as it has been freed."""
        self._cancelled: OrderedDict[AttemptId, None] = OrderedDict()
        """Those that were answered when they were cancelled: nothing more is said about them."""
        self._draining: str | None = None
        self._leaves_alone = False
        self._publisher = Publisher()
        self.holdings = Holdings(pool.held, self._publisher)
        self._outlook = OutlookBoard(pool.outlook)

    # What the driver asks for

    def carry(self, bundle: Bundle) -> None:
        """Carry out a bundle; returns when all of its attempts have been reported."""
        load = _Load(bundle.key, {envelope.attempt for envelope in bundle.envelopes})
        with self._lock:
            self._loads.add(load)
        try:
            self._carry(bundle.envelopes)
        except Exception as error:
            logger.exception("Bundle %s could not be carried out", bundle.key)
            with self._lock:
                left = [one for one in bundle.envelopes if one.attempt in load.unreported]
            self.account([outcomes.refused(one, error, at=time.time()) for one in left])
        finally:
            with self._lock:
                self._loads.discard(load)
                self._lock.notify_all()

    def cancel(self, attempts: Iterable[AttemptId]) -> None:
        """Stop attempts: those that run are killed and reported with what is known, others are answered at once."""
        with self._lock:
            running = {one.envelope.attempt: one for one in self._running.values()}
            asked = [one for one in attempts if one not in self._cancelled]
            waiting = [one for one in asked if one not in running]
            self._cancelled.update(dict.fromkeys(waiting))
            while len(self._cancelled) > CANCELLED_KEPT:
                self._cancelled.popitem(last=False)
            for attempt in asked:
                if attempt in running:
                    self._pool.kill(running[attempt].lease.slot, _cancelling(running[attempt]))
        self._reporter.report([Evidence(one, Ending.CANCELLED, at=time.time(), expected=True) for one in waiting])
        self._pool.nudge()

    def drain(self, because: str, *, alone: bool = False) -> None:
        """Begin nothing new; what runs may finish. The first reason stays; ``alone``: it is this worker's only."""
        with self._lock:
            if self._draining is not None:
                return
            self._draining, self._leaves_alone = because, alone
            self._lock.notify_all()
            for running in self._running.values():
                running.lease.slot.stop()
        logger.info("Draining: %s", because)
        self._reporter.draining(because, alone=alone)  # before attempts that stop for it: they would come back here
        self._outlook.draining(because)
        self._pool.nudge()
        self.store_held(self.holdings.keys())  # nobody can have them once this worker is gone

    def store_held(self, keys: Sequence[str]) -> None:
        """Store results that are held here, in the background; the worker is not idle before that is done."""
        if keys:
            with self._lock:
                self._storing += 1
            threading.Thread(target=self._store_aside, args=(keys,), name="scalable-hpc-holdings", daemon=True).start()

    # What the worker's own process asks for

    def deadline_is(self, at: float | None) -> None:
        """Let what runs know when the allocation ends."""
        self._outlook.deadline_is(at)

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Return whether nothing is being carried, at the latest after ``timeout_s``."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._loads and not self._storing, timeout_s)

    def in_hand(self) -> list[Holding]:
        """Return what is being carried and has not been reported, for a driver that did not see it begin."""
        with self._lock:
            left = [(load.key, sorted(load.unreported - self._cancelled.keys(), key=str)) for load in self._loads]
        return [Holding(key, tuple(attempts)) for key, attempts in left if attempts]

    def rejoin(self, address: str, post: Post) -> None:
        """Report to a driver: the first one, or the next one after its link broke."""
        self._reporter.attach(address, post, self.in_hand())
        if self._draining is not None:
            self._reporter.draining(self._draining, alone=self._leaves_alone)

    def orphaned(self) -> None:
        """Go on with what is in hand, and keep what there is to be reported: nobody hears it for now."""
        self._reporter.detach()
        self.store_held(self.holdings.keys())  # the next driver will not know of them, but looks into the store

    def stop(self, because: str, *, timeout_s: float) -> bool:
        """Kill what runs, have it all reported, and return whether that took less than ``timeout_s``."""
        self.drain(because)
        for one in self.running():
            self._pool.kill(one.lease.slot, Doom("", Ending.SLOT_DIED, because))
        return self.wait_until_idle(timeout_s)

    def running(self) -> list[Running]:
        """Return what runs, for the memory guard."""
        with self._lock:
            return list(self._running.values())

    # What a trip asks for

    def begun(self, running: Running) -> None:
        """Note that an attempt runs; one that was cancelled on its way is killed."""
        seat = running.lease.slot.seat.index
        self._recorder.append(lines.started(running.envelope.attempt, at=time.time(), seat=seat))
        with self._lock:
            self._running[running.lease.slot.token] = running
            is_cancelled = running.envelope.attempt in self._cancelled
        if is_cancelled:
            self._pool.kill(running.lease.slot, _cancelling(running))

    def free(self, lease: Lease) -> None:
        """Give a lease back, unless it was before."""
        with self._lock:
            if self._leases.get(lease.slot.token) is not lease:
                return
            del self._leases[lease.slot.token]
            self._running.pop(lease.slot.token, None)
        self._record_death(lease.slot)
        self._pool.give_back(lease)

    def settle(self, results: Sequence[Settled]) -> None:
        """Make results durable, then report them; exceptions are reported."""
        if gone := self._lost_host(failed=any(isinstance(one.reply, wire.Raised) for one in results)):
            self._finish([outcomes.lost(one.envelope, one.reply, *gone, log_tail=one.log_tail) for one in results])
            return
        made = [made for one in results if (made := _made(one)) is not None]
        places, now = self._publisher.publish(made), time.time()
        is_ending = any(self._is_end_confirmed(one.reply) for one in results)
        endings = [
            outcomes.of(one.envelope, one.reply, places, log_tail=one.log_tail, at=now, is_ending=is_ending)
            for one in results
        ]
        held = [
            (one.envelope, end)
            for one, end in zip(results, endings, strict=True)
            if isinstance(end, Receipt) and end.result.held
        ]
        for envelope, receipt in held:
            self.holdings.keep(envelope, receipt)
        self._finish(endings)
        if held and self._draining is not None:
            self._store_held([envelope.key for envelope, _ in held])

    def _store_aside(self, keys: Sequence[str]) -> None:
        try:
            self._store_held(keys)
        finally:
            with self._lock:
                self._storing -= 1
                self._lock.notify_all()

    def _store_held(self, keys: Sequence[str]) -> None:
        for key in keys:
            stored = self.holdings.store(key)
            if isinstance(stored, Receipt):
                self._reporter.report([stored])
            else:
                self._reporter.held_gone([key], stored)

    def _is_end_confirmed(self, reply: object) -> bool:
        """Tell whether an exception came of the end of the job: its slot was told to end, and so was the launcher.

        A signal alone proves nothing: user code may send one to itself.
        """
        if not (isinstance(reply, wire.Raised) and reply.was_told_to_end):
            return False
        with self._lock:
            return self._lock.wait_for(lambda: self._draining is not None, LAUNCHER_TELLS_WITHIN_S)

    def account(self, endings: Sequence[Evidence]) -> None:
        """Report attempts that ended without their slot's word."""
        doubtful = any(map(outcomes.may_come_of_a_lost_host, endings))
        gone = self._lost_host(failed=True) if doubtful else None
        self._finish(endings if gone is None else [outcomes.without_host(one, *gone) for one in endings])

    def takes_nothing_new(self) -> str | None:
        """Return why nothing new may begin; None while it may."""
        return self._draining

    # How a bundle is carried out

    def _carry(self, envelopes: Sequence[Envelope]) -> None:
        left = self._report_reused(self._wanted(envelopes))
        if not left:
            return
        width, because = self._width(left), self._draining
        if because is not None:
            self.account([outcomes.turned_away(one, because, at=time.time(), expected=True) for one in left])
        elif width is None:
            because = f"it needs more than the {self._options.cpus} cpus and {self._options.gpus} gpus of this worker"
            self.account([outcomes.turned_away(one, because, at=time.time(), expected=False) for one in left])
        else:
            self._make_trip(left, width)

    def _make_trip(self, envelopes: Sequence[Envelope], width: int) -> None:
        lease = self._pool.lend(width, gives_up=lambda: self._draining is not None or not self._wanted(envelopes))
        if lease is None:
            because, at = self._draining or "the worker is closing", time.time()
            left = self._wanted(envelopes)
            self.account([outcomes.never_started(one, because, at=at, expected=True) for one in left])
            return
        with self._lock:
            self._leases[lease.slot.token] = lease
        try:
            wanted = self._wanted(envelopes)
            if wanted:
                Trip(lease, wanted, self._pool, self).make()
        except BaseException:
            if self._leases.get(lease.slot.token) is lease:
                # It may be in the middle of the order: what it says later must not be taken for another's.
                self._pool.kill(lease.slot, Doom("", Ending.SLOT_DIED, "the courier failed"))
                self._pool.exit_of(lease.slot)
            raise
        finally:
            self.free(lease)

    def _width(self, envelopes: Sequence[Envelope]) -> int | None:
        options = self._options
        return seats_needed(
            cpus=max((one.cpus for one in envelopes), default=1),
            gpus=max((one.gpus for one in envelopes), default=0),
            slots=options.slots,
            worker_cpus=options.cpus,
            worker_gpus=options.gpus,
        )

    def _wanted(self, envelopes: Sequence[Envelope]) -> list[Envelope]:
        with self._lock:
            return [one for one in envelopes if one.attempt not in self._cancelled]

    def _report_reused(self, envelopes: Sequence[Envelope]) -> list[Envelope]:
        """Report those whose result is in the store already; return the others."""
        places, now = self._publisher.lookup(envelopes), time.time()
        left = [one for one in envelopes if one.attempt not in places]
        found = [
            outcomes.receipt(one, places[one.attempt], wire.Span(now, now, 0), reused=True)
            for one in envelopes
            if one.attempt in places
        ]
        self._finish(found)
        return left

    def _finish(self, endings: Sequence[Outcome]) -> None:
        """Record and report; what was answered when it was cancelled is not reported again."""
        if not endings:
            return
        with self._lock:
            news = [one for one in endings if one.attempt not in self._cancelled]
        now = time.time()
        self._recorder.append(*[lines.ended(one.attempt, at=now, how=outcomes.name_of(one)) for one in endings])
        self._reporter.report(news)
        ended = {one.attempt for one in endings}
        with self._lock:  # afterwards: in between it is in hand twice for a driver that comes now, never not at all
            for load in self._loads:
                load.unreported -= ended

    def _lost_host(self, *, failed: bool) -> tuple[str, str] | None:
        """Return a node of the tasks' that is gone, and what is said of it: we leave then; None: all are there."""
        lost = () if self._roll_call is None else self._roll_call.missing(failed=failed)
        if not lost:
            return None
        because = f"{', '.join(lost)}, of the nodes that its tasks have, {'is' if len(lost) == 1 else 'are'} lost"
        self.drain(because, alone=True)
        self._leave(because)
        return lost[0], because

    def _record_death(self, slot: Slot) -> None:
        if slot.exit is not None:
            if self._end_orphans is not None:
                threading.Thread(target=self._end_orphans, name="scalable-hpc-orphans", daemon=True).start()
            self._recorder.append(
                lines.died(
                    at=time.time(),
                    seat=slot.seat.index,
                    exit_code=slot.exit.exit_code,
                    signal=slot.exit.signal,
                    peak_memory=slot.exit.peak_memory,
                )
            )


def _made(settled: Settled) -> Result | None:
    """Return what is to be published of an attempt; its core-seconds are those of the cores that it was given."""
    reply = settled.reply
    data = wire.result_in(reply)
    if data is None or isinstance(reply, wire.Raised | wire.Held):
        return None
    run_s = reply.span.ended_at - reply.span.started_at
    return Result(settled.envelope, data, run_s * settled.envelope.cpus, reply.note, reply.stray)


def _cancelling(running: Running) -> Doom:
    return Doom(running.attempt, Ending.CANCELLED, "it was cancelled")
