"""The keeper: takes calls in, has each run until it has a receipt, and tells its future.

Everything happens in turns on the engine's loop: take what came in, decide, place; then, off the loop, bring the
journal to disk; then, and only then, act. What comes in during a turn waits for the next one.

Rule 1: nothing is sent, told or let go before the events that say so are on disk.
Rule 2: before a task is tried again its store is asked for its result: what was published is never run again.
Rule 3: decisions are made in ``rulings`` and ``window``; here they are carried out.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from scalable_hpc.errors import JournalError, RunDirectoryError
from scalable_hpc.lineage.calls import read_calls
from scalable_hpc.lineage.causes import Causes
from scalable_hpc.lineage.census import Progress, demand_of, progress_of
from scalable_hpc.lineage.desk import Desk
from scalable_hpc.lineage.files import RunFiles
from scalable_hpc.lineage.hosts import HostRules
from scalable_hpc.lineage.inbox import Command
from scalable_hpc.lineage.inquiry import Inquiries
from scalable_hpc.lineage.intake import AllocationOver, AllocationRequeued, Intake, Message, NodesLost
from scalable_hpc.lineage.lanes import LaneKey
from scalable_hpc.lineage.lease import BEAT_S
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.need import Offer
from scalable_hpc.lineage.outcome import Outcome
from scalable_hpc.lineage.outgoing import Outgoing
from scalable_hpc.lineage.parcels import Contents, Parcels, Written
from scalable_hpc.lineage.ports import Ports
from scalable_hpc.lineage.record import TaskState
from scalable_hpc.lineage.reunion import Reunions
from scalable_hpc.lineage.roster import Roster
from scalable_hpc.lineage.turn import Turn, tell_outcome
from scalable_hpc.lineage.window import WindowRules
from scalable_hpc.model.allocations import JobEnding
from scalable_hpc.model.events import Event, RunClosed
from scalable_hpc.model.fleet import Demand
from scalable_hpc.model.messages import AttemptEnded, Upward

logger = logging.getLogger(__name__)

COMMANDS_PER_TURN = 300
MESSAGES_PER_TURN = 500
"""The loop is Dask's too: a turn is not to hold it for more than some 20 ms."""
SPACING_S = 0.003
"""Least time between turns: what arrives together shares a turn and its fsync."""


class Keeper(Desk):
    """Keeps a run's tasks. What it has of the desk is for any thread, and so is ``forget``; all else for the loop."""

    def __init__(
        self,
        files: RunFiles,
        ports: Ports,
        *,
        offers: Sequence[Offer] = (),
        stores: Iterable[str] = (),
        ledger: Ledger | None = None,
        rules: WindowRules | None = None,
        host_rules: HostRules | None = None,
        retry_quarantined: bool = False,
        awaited: Mapping[str, str] | None = None,
    ) -> None:
        """Put a keeper together; ``run`` starts it.

        Args:
            files: the run's journal, payloads and lease.
            ports: what it is connected to.
            offers: the worker types on this target; empty: nothing is known of them, and nothing refused.
            stores: roots to look in for results of calls that were answered before they came here; the run's own first.
            ledger: what an earlier driver's journal told; its open tasks are taken up.
            rules: how full workers are kept.
            host_rules: when a host is kept away from.
            retry_quarantined: try again what an earlier driver had convicted.
            awaited: allocations of an earlier driver that may live, and their worker types: what was sent there
                is waited for.
        """
        super().__init__()
        self._files = files
        self._ports = ports
        self._ledger = Ledger() if ledger is None else ledger
        self._roster = Roster()
        calls = functools.partial(read_calls, files.journal.path)
        self._parcels = Parcels(self._ledger, files.payloads, ports.results, stores, calls, ports.hit_of)
        self._inquiries = Inquiries(ports, self.receive)
        self._reunions = Reunions(self._ledger, self._roster, self._inquiries, self.receive)
        self._intake = Intake(
            self._ledger,
            self._roster,
            files.payloads,
            self._parcels,
            ports.rng,
            self._inquiries,
            self._reunions,
            offers,
        )
        self._awaited = dict(awaited or {})
        self._outgoing = Outgoing(
            self._ledger,
            self._roster,
            self._parcels,
            self._intake.custody,
            ports.transport,
            tuple(offers),
            rules or WindowRules(),
        )
        self._causes = Causes(self._ledger)
        self._retry_quarantined = retry_quarantined
        self._host_rules = host_rules or HostRules()
        self._messages: deque[Message] = deque()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="keeper")
        self._turn: Turn | None = None
        self._closing = False
        self._ended: asyncio.Event | None = None
        self.has_adopted = asyncio.Event()
        """What an earlier driver left open is taken up, and counts as waiting."""
        self._beaten_at = 0.0

    def forget(self, task_id: str) -> None:
        """Hear that nobody has the future of a task any more; also from within the garbage collector."""
        self._intake.custody.forget(task_id)

    def progress(self) -> Progress:
        """Return how far the run is."""
        return progress_of(self._ledger, self._ports.clock())

    def is_running(self, task_id: str) -> bool:
        """Whether an attempt of a task is on a worker now."""
        record = self._ledger.tasks.get(task_id)
        return record is not None and record.state is TaskState.SENT

    def receive(self, message: Upward) -> None:
        """Take a message from a worker, or about one."""
        self._messages.append(message)
        self._inbox.ring()

    def allocation_ended(self, name: str, ending: JobEnding) -> None:
        """Hear how an allocation ended: its workers are gone, and what they were running is explained."""
        self._messages.append(AllocationOver(name, ending))
        self._inbox.ring()

    def allocation_requeued(self, name: str, ending: JobEnding) -> None:
        """Hear that an allocation's nodes were taken away, and that its job will run again with new workers."""
        self._messages.append(AllocationRequeued(name, ending))
        self._inbox.ring()

    def nodes_lost(self, name: str, ending: JobEnding) -> None:
        """Hear that an allocation goes on without some nodes (``ending.nodes``): their workers are gone."""
        self._messages.append(NodesLost(name, ending))
        self._inbox.ring()

    def worker_draining(self, address: str, because: str) -> None:
        """Give a worker nothing new."""
        self._roster.drain(address, because)

    def drain_allocation(self, name: str, because: str) -> None:
        """Give an allocation's workers nothing new, now and later."""
        self._roster.drain_allocation(name, because)

    def record(self, event: Event) -> None:
        """Journal what the fleet or the session did; it is on disk after the next turn."""
        self._ledger.apply(event)
        self._files.journal.append(event)
        self._inbox.ring()

    def demand(self) -> list[Demand]:
        """Return what is wanted of each worker type."""
        return demand_of(self._ledger, self._roster, self._outgoing.allowance())

    def divert(self, stand_ins: Mapping[str, tuple[str, ...]]) -> None:
        """Place what is meant for a worker type that cannot be had on the first of its stand-ins that is large enough.

        Args:
            stand_ins: every such type; those that are not named do their own work.
        """
        self._outgoing.stand_ins = dict(stand_ins)
        self._inbox.ring()

    def busy(self) -> Mapping[str, int]:
        """Return how many attempts each connected allocation has in hand; idle ones count 0."""
        return self._roster.busy()

    def unexplained(self) -> Collection[str]:
        """Return the allocations that took attempts along, and of whose end nobody has heard yet."""
        return self._intake.unexplained()

    def excluded_hosts(self) -> tuple[str, ...]:
        """Return the hosts that new allocations are to keep away from, now."""
        return self._ledger.hosts.excluded(self._ports.clock())

    def unplaced(self) -> Mapping[LaneKey, str]:
        """Return why the first task of each kind still waits."""
        return self._outgoing.unplaced

    async def run(self) -> None:
        """Take turns until ``close``.

        Raises:
            RunDirectoryError: the journal cannot be written; every future was told so.
        """
        self._ended = asyncio.Event()
        self._inbox.attach()
        loop = asyncio.get_running_loop()
        try:
            turn = self._begin_turn()
            self._intake.adopt(turn, self._awaited, retry_quarantined=self._retry_quarantined)
            await self._end_turn(turn)
            self.has_adopted.set()
            while not self._closing:
                await self._inbox.wait(self._patience_s())
                began = loop.time()
                await self._take_turn()
                await asyncio.sleep(max(0.0, began + SPACING_S - loop.time()))
        except Exception as error:
            self._break_off(error)
            raise
        finally:
            self._ended.set()

    async def close(self, because: str = "the session was closed") -> None:
        """Take one last turn and close the run's files; whoever journals anything must have ended before.

        A second call does nothing.

        The futures of tasks that are not over are cancelled; their tasks stay open for a later driver.

        Raises:
            RunDirectoryError: the last events could not be written.
        """
        if self._closing:
            return
        self._closing = True
        left = deque(self._inbox.close())
        self._inbox.ring()
        if self._ended is not None:
            await self._ended.wait()
        await self._inquiries.call_off()
        loop = asyncio.get_running_loop()
        try:
            if self._broken is None:
                await self._take_last_turn(left.popleft() for _ in range(len(left)))
                self._files.journal.append(RunClosed(self._ports.clock(), because))
            await loop.run_in_executor(self._threads, self._files.close)
        except RunDirectoryError:
            if self._broken is None:
                raise
        finally:
            self._turn_away(left)
            self._dismiss(because)
            self._threads.shutdown(wait=False)

    def _patience_s(self) -> float:
        """Return how long to wait for the bell: until a backoff or a patience ends, or the lease wants its beat."""
        due = [at for at in (self._ledger.next_due(), self._reunions.next_due()) if at is not None]
        return min([BEAT_S, *(max(0.0, at - self._ports.clock()) for at in due)])

    def _begin_turn(self) -> Turn:
        self._turn = Turn(self._ledger, self._files.journal, self._intake.listeners, self._causes, self._ports.clock())
        return self._turn

    async def _take_turn(self) -> None:
        turn = self._begin_turn()
        self._take_in(turn, self._inbox.take(COMMANDS_PER_TURN), MESSAGES_PER_TURN)
        self._ledger.release_due(turn.now)
        self._look_at_hosts(turn)
        self._intake.give_up_late(turn)
        may_place_more = await self._outgoing.choose(turn, self._threads)
        has_recalled = self._intake.custody.look_after(turn)
        if may_place_more or has_recalled or self._messages:
            self._inbox.ring()
        await self._end_turn(turn)

    def _look_at_hosts(self, turn: Turn) -> None:
        suspects = self._ledger.hosts.suspects(turn.now, self._host_rules)
        for suspect in suspects:
            logger.warning("%s", suspect.because)
        turn.tell(suspects)
        self._roster.shun(self._ledger.hosts.excluded(turn.now))

    async def _take_last_turn(self, left: Iterable[Command]) -> None:
        """Take in everything that came before the end, and place nothing."""
        turn = self._begin_turn()
        self._take_in(turn, left, len(self._messages))
        await self._end_turn(turn)

    def _take_in(self, turn: Turn, commands: Iterable[Command], messages: int) -> None:
        for command in commands:
            self._intake.take_command(command, turn)
        for _ in range(min(messages, len(self._messages))):
            self._intake.take_message(self._messages.popleft(), turn)

    async def _end_turn(self, turn: Turn) -> None:
        """Bring the turn to disk, then act on it."""
        wanted = [
            Written(record.function, record.arguments, record.rule)
            for record in (placement.record for placement in turn.placements)
            if record.function is not None and record.arguments is not None
        ]
        contents: Sequence[Contents | JournalError] = ()
        if turn.is_eventful or self._files.journal.is_waiting or self._is_beat_due(turn.now):
            loop = asyncio.get_running_loop()
            contents = await loop.run_in_executor(self._threads, self._to_disk, wanted, turn.now)
        turn.announce()
        turn.carry_out(self._ports.transport)
        for evidence in self._outgoing.send(turn, contents):
            self.receive(AttemptEnded(evidence))

    def _to_disk(self, wanted: Sequence[Written], now: float) -> list[Contents | JournalError]:
        if self._files.lease is not None and self._is_beat_due(now):
            self._beaten_at = now
            self._files.lease.beat()
        return self._files.commit(wanted, self._parcels)

    def _is_beat_due(self, now: float) -> bool:
        return self._files.lease is not None and now - self._beaten_at >= BEAT_S

    def _break_off(self, error: Exception) -> None:
        """Tell everybody that the keeper cannot go on; nothing is journaled any more."""
        logger.error("The keeper cannot go on: %s", error)
        self._broken = error
        self._turn_away(self._inbox.close())
        if self._turn is not None:
            self._turn.fail(error)
        for task_id, on_done in self._intake.pop_listeners():
            tell_outcome(on_done, Outcome(task_id, error=error, because="the keeper cannot go on"))

    def _dismiss(self, because: str) -> None:
        for task_id, on_done in self._intake.pop_listeners():
            tell_outcome(on_done, Outcome(task_id, cancelled=True, because=because))
