"""The courier's side of its slots: who sits where, who is free, who has died and of what.

A *seat* is a fixed share of the worker (``shares``); a slot is the process that sits in it now. A dead slot is
replaced when its seat is next free, which takes one fork.

A task that kills its parent, its slot's minder, costs this one slot. One that kills its grandparent, the nursery,
takes all slots along, but not the worker: another nursery is started, and each attempt is reported with how many ran
beside it.

Rule 1: slots are killed by name (token) through the nursery only, which alone knows whether a pid is still theirs.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from scalable_hpc.worker import wire
from scalable_hpc.worker.handles import Doom, Lease, Slot, SlotExit
from scalable_hpc.worker.launching import environment_for_tasks
from scalable_hpc.worker.nursery import MARK, MESSAGE_LIMIT
from scalable_hpc.worker.nursing import Collapses, how_it_ended, kill_marked, start_nursery
from scalable_hpc.worker.shares import Seat
from scalable_hpc.worker.slot import Birth
from scalable_hpc.worker.voices import Listener, Voice

EXIT_KNOWN_WITHIN_S = 1.0
"""From a closed pipe to the nursery's word on the exit; a slot that only closed its pipe is killed after that."""
KILLED_WITHIN_S = 5.0
"""A process in an uninterruptible wait does not even die of SIGKILL; its seat is given to another all the same."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Turn:
    width: int
    granted: tuple[Seat, ...] | None = None


class SlotPool:
    """All slots of one worker."""

    def __init__(
        self,
        seats: Sequence[Seat],
        *,
        name: str,
        scratch: Path,
        checkpoints: Path,
        held: Path | None = None,
        search_path: Sequence[str] = (),
        on_collapse: Callable[[str], None] = lambda _: None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._seats = tuple(seats)
        self._name = name
        self._scratch = scratch
        self._checkpoints = checkpoints
        self.held = held or scratch / "held"
        """Where slots leave results that are not stored; it is somebody else's to make."""
        self.outlook = scratch / "outlook.json"
        """Where slots look up how long the worker will be there."""
        self._search_path = list(search_path)
        self._on_collapse = on_collapse
        self._environment = environment or environment_for_tasks(os.environ)
        self._lock = threading.Condition()
        self._free: set[int] = set(range(len(seats)))
        self._turns: deque[_Turn] = deque()
        self._sitting: dict[int, Slot] = {}
        self._known: dict[str, Slot] = {}
        self._born = 0
        self._is_closed = False
        self._collapses = Collapses()
        self._listener = Listener()

    def start(self) -> None:
        """Start the nursery and a slot in every seat."""
        self._nursery, self._nursery_link = start_nursery(self._seats[0], self._environment)
        self._listener.start()
        self._reader = threading.Thread(target=self._read_reports, name="scalable-hpc-nursery", daemon=True)
        self._reader.start()
        with self._lock:
            for seat in self._seats:
                self._seat_new_slot(seat)

    def lend(self, width: int, *, gives_up: Callable[[], bool] = lambda: False) -> Lease | None:
        """Wait for ``width`` free seats, first come first served; None when ``gives_up`` says so meanwhile.

        Whoever makes ``gives_up`` true calls ``nudge``.

        Raises:
            OSError: a slot had to be replaced and could not be.
        """
        turn = _Turn(width)
        with self._lock:
            self._turns.append(turn)
            self._grant()
            while turn.granted is None:
                if gives_up() or self._is_closed:
                    self._turns.remove(turn)
                    self._grant()
                    return None
                self._lock.wait()
            try:
                slot = self._living(turn.granted[0])
                slot.is_lent = True
                return Lease(slot, turn.granted)
            except OSError:
                self._free.update(seat.index for seat in turn.granted)
                raise

    def give_back(self, lease: Lease) -> None:
        """Free the seats; a slot that has died makes place for a new one."""
        with self._lock:
            lease.slot.is_lent = False
            with suppress(OSError):  # no descriptors, no memory: whoever is lent the seat next tries again
                self._living(lease.seats[0])
            self._free.update(seat.index for seat in lease.seats)
            self._grant()

    def waiting(self) -> int:
        """Return how many wait in ``lend``."""
        with self._lock:
            return len(self._turns)

    def nudge(self) -> None:
        """Make everyone who waits in ``lend`` ask ``gives_up`` again."""
        with self._lock:
            self._lock.notify_all()

    def kill(self, slot: Slot, doom: Doom) -> None:
        """Kill a slot with all its descendants; the first reason stays."""
        if slot.doom is None:
            slot.doom = doom
        self._ask({"do": "kill", "token": slot.token})

    def exit_of(self, slot: Slot) -> SlotExit:
        """Return how a slot ended whose pipe is closed; one that lives on without its pipe is killed."""
        if not slot.has_died.wait(EXIT_KNOWN_WITHIN_S):
            self._ask({"do": "kill", "token": slot.token})
            slot.has_died.wait(KILLED_WITHIN_S)
        return slot.exit or self.give_up(slot)

    def give_up(self, slot: Slot) -> SlotExit:
        """Take a slot for dead that was killed and does not die, so that its seat can be given to another."""
        return slot.end(SlotExit(None, signal.SIGKILL, None))

    def close(self) -> None:
        """Kill all slots with their descendants, and end the nursery."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._lock.notify_all()
        with suppress(OSError):
            self._nursery_link.shutdown(socket.SHUT_RDWR)
        try:
            self._nursery.wait(KILLED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._nursery.kill()
            self._nursery.wait()
        self._reader.join()
        self._nursery_link.close()
        self._listener.close()

    def _grant(self) -> None:
        """Give free seats to those who came first; a wide turn is not overtaken by narrow ones behind it."""
        has_granted = False
        while self._turns and self._turns[0].width <= len(self._free):
            turn = self._turns.popleft()
            taken = sorted(self._free)[: turn.width]
            self._free.difference_update(taken)
            turn.granted = tuple(self._seats[index] for index in taken)
            has_granted = True
        if has_granted:
            self._lock.notify_all()

    def _living(self, seat: Seat) -> Slot:
        slot = self._sitting[seat.index]
        if not slot.has_died.is_set() or self._is_closed:
            return slot
        self._known.pop(slot.token, None)
        self._listener.drop(slot.voice)
        slot.pipe.close()
        return self._seat_new_slot(seat)

    def _seat_new_slot(self, seat: Seat) -> Slot:
        """Ask the nursery for a slot; orders can be written to its pipe before it is born."""
        self._born += 1
        token = f"{self._name}-{os.getpid()}-{self._born}"
        scratch = self._scratch / f"slot-{seat.index}"
        with suppress(OSError):  # a full disk is for the attempt to find, if it wants to write there
            scratch.mkdir(parents=True, exist_ok=True)
        ours, theirs = socket.socketpair()
        voice = Voice()
        slot = Slot(seat, token, wire.Pipe(ours.detach()), voice)
        self._sitting[seat.index] = self._known[token] = slot
        self._listener.add(voice)
        birth = Birth(
            token=token,
            environment={
                MARK: token,
                "SCALABLE_HPC_SLOT": str(seat.index),
                "SCALABLE_HPC_SCRATCH": str(scratch),
            },
            scratch=str(scratch),
            checkpoints=str(self._checkpoints),
            held=str(self.held),
            outlook=str(self.outlook),
            search_path=self._search_path,
        )
        self._ask({"do": "bear", "birth": asdict(birth)}, [theirs.fileno(), voice.speaking_end])
        theirs.close()
        os.close(voice.speaking_end)
        return slot

    def _ask(self, request: dict[str, object], descriptors: Sequence[int] = ()) -> None:
        with suppress(OSError):  # the nursery has died: its end of the link says so to the reader
            socket.send_fds(self._nursery_link, [json.dumps(request).encode()], descriptors)

    def _read_reports(self) -> None:
        while (data := self._next_report()) or self._has_new_nursery():
            if not data:
                continue
            report = json.loads(data)
            if "born" in report:
                with self._lock:
                    if (slot := self._known.get(report["born"])) is not None:
                        slot.pid, slot.minder = report["pid"], report["minder"]
            elif "died" in report:
                code = int(report["exit"])
                end = SlotExit(
                    code if code >= 0 else None,
                    -code if code < 0 else None,
                    int(report["peak"]),
                    minder_exit=int(report["minder_exit"]),
                )
                self._end(report["died"], end)
            else:
                because = f"it could not be forked: {os.strerror(report['errno'])}"
                self._end(report["stillborn"], SlotExit(None, None, None, because))

    def _next_report(self) -> bytes:
        try:
            return self._nursery_link.recv(MESSAGE_LIMIT)
        except OSError:
            return b""

    def _end(self, token: str, exit_: SlotExit) -> None:
        with self._lock:
            slot = self._known.get(token)
            if slot is not None and slot.exit is None:
                slot.end(exit_)

    def _has_new_nursery(self) -> bool:
        """Account for the slots of a nursery that is gone, and start another one unless we are closing."""
        status = self._nursery.wait()
        with self._lock:
            is_closing, lost = self._is_closed, [slot for slot in self._known.values() if slot.exit is None]
            because = f"the nursery, the parent process of all slots, died ({how_it_ended(status)})"
            together = sum(slot.is_lent for slot in lost)
            is_over = is_closing or not self._collapses.allow_another()
            if not is_over:
                self._nursery_link.close()
                self._nursery, self._nursery_link = start_nursery(self._seats[0], self._environment)
            for slot in lost:
                slot.end(SlotExit(None, None, None, because, None if is_closing else together))
        kill_marked(f"{MARK}={self._name}-{os.getpid()}-", {slot.token for slot in lost})
        if not is_closing:
            logger.warning("%s; %d attempts ran", because, together)
        if is_over and not is_closing:
            self._on_collapse(because)
        return not is_over
