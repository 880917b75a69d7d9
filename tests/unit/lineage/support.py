"""Fakes behind the keeper's ports, and makers of tasks, receipts and evidence."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from blake3 import blake3

from scalable_hpc.errors import RunDirectoryError
from scalable_hpc.lineage.files import RunFiles
from scalable_hpc.lineage.journal import Journal, read_events
from scalable_hpc.lineage.keeper import Keeper
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.outcome import Outcome
from scalable_hpc.lineage.payload import PayloadPack
from scalable_hpc.lineage.ports import HitOf, Ports, no_hit
from scalable_hpc.model.allocations import ExitReason
from scalable_hpc.model.events import AttemptPlaced, Event, TaskSubmitted
from scalable_hpc.model.messages import AttemptDone, AttemptEnded, Bundle, Envelope, WorkerGone, WorkerHello
from scalable_hpc.model.resources import WorkerType
from scalable_hpc.model.tasks import (
    AttemptId,
    Ending,
    Evidence,
    ExceptionFacts,
    Locator,
    Payload,
    Receipt,
    ResultRef,
    TaskSpec,
)

NOW = 1_800_000_000.0
STORE = "/runs/r/results"
CPU = WorkerType("cpu", cpus=4, slots=4)


def payload(data: bytes) -> Payload:
    return Payload(blake3(data).hexdigest(), len(data), inline=data)


def key_of(name: str) -> str:
    return blake3(name.encode()).hexdigest()


def spec(task_id: str, *ancestors: str, **changes: object) -> TaskSpec:
    """A task; its key is made from its id unless ``key`` is given."""
    made = TaskSpec(
        task_id=task_id,
        name="f",
        key=key_of(task_id),
        function=payload(b"the function"),
        arguments=payload(f"arguments of {task_id}".encode()),
        store=STORE,
        ancestors=tuple(ResultRef(name, key_of(name)) for name in ancestors),
        label=f"f({task_id})",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def submitted(task_id: str, *ancestors: str, at: float = NOW, **changes: object) -> TaskSubmitted:
    made = spec(task_id, *ancestors, **changes)
    return TaskSubmitted(
        at,
        made.task_id,
        made.name,
        made.key,
        made.store,
        replace(made.function, inline=None, offset=0),
        replace(made.arguments, inline=None, offset=0),
        tuple((ref.task_id, ref.key) for ref in made.ancestors),
        made.needs,
        made.policy,
        made.timeout_s,
        made.expected_runtime_s,
        made.priority,
        made.tag,
        made.label,
        made.refresh,
        made.checkpoints,
        persist=made.persist,
    )


def placed(task_id: str, attempt: int = 1, worker: str = "w1", allocation: str = "a0001") -> AttemptPlaced:
    return AttemptPlaced(NOW, task_id, attempt, worker, allocation)


def receipt(
    attempt: AttemptId, *, key: str | None = None, seconds: float = 1.0, at: float = NOW, inline: bytes | None = b"r"
) -> Receipt:
    digest = blake3(f"result of {attempt}".encode()).hexdigest()
    result = Locator(STORE, key or key_of(attempt.task_id), digest, 1, inline)
    return Receipt(attempt, result, at - seconds, at, 1 << 20, "n1", "w1", "a0001")


def raised(type_name: str, *bases: str, message: str = "", **facts: object) -> ExceptionFacts:
    mro = (type_name, *bases, "builtins.Exception", "builtins.BaseException", "builtins.object")
    return ExceptionFacts(type_name, mro, message, **facts)  # type: ignore[arg-type]


VALUE_ERROR = raised("builtins.ValueError", message="no such site")
CONNECTION_RESET = raised("builtins.ConnectionResetError", "builtins.ConnectionError", "builtins.OSError", errno=104)


def evidence(attempt: AttemptId, ending: Ending = Ending.EXCEPTION, at: float = NOW, **facts: object) -> Evidence:
    if ending is Ending.EXCEPTION:
        facts.setdefault("exception", CONNECTION_RESET)
    return Evidence(attempt, ending, at, **facts)  # type: ignore[arg-type]


def hello(number: int = 1, *, slots: int = 4, deadline: float | None = None, **changes: object) -> WorkerHello:
    made = WorkerHello(
        address=f"tls://10.0.0.{number}:1",
        name=f"a{number:04d}",
        allocation=f"a{number:04d}",
        job_id=str(number),
        node=f"n{number}",
        pid=1,
        worker_type="cpu",
        slots=slots,
        cpus=slots,
        memory=None,
        gpus=0,
        deadline=deadline,
        started_at=NOW,
        recorder=f"/recorders/a{number:04d}",
        version="0",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


class FakeTransport:
    """Keeps what it was given; ``on_send`` sees each envelope as it is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Envelope]] = []
        self.in_hand: dict[str, tuple[str, Bundle]] = {}
        self.cancelled: list[tuple[str, AttemptId]] = []
        self.released: list[str] = []
        self.asked_to_store: list[tuple[str, str]] = []
        self.dismissed: list[tuple[str, str]] = []
        self.freed: list[tuple[str, str]] = []
        self.most_in_hand = 0
        self.on_send: Callable[[str, Bundle], None] | None = None
        self._arrival = asyncio.Event()

    def send(self, worker_address: str, bundles: Sequence[Bundle]) -> None:
        for bundle in bundles:
            assert bundle.key not in self.in_hand
            self.in_hand[bundle.key] = (worker_address, bundle)
            self.sent += [(worker_address, envelope) for envelope in bundle.envelopes]
            if self.on_send is not None:
                self.on_send(worker_address, bundle)
        self.most_in_hand = max(self.most_in_hand, len(self.in_hand))
        self._arrival.set()

    def cancel_attempts(self, worker_address: str, attempts: Iterable[AttemptId]) -> None:
        self.cancelled += [(worker_address, attempt) for attempt in attempts]
        self._arrival.set()

    def persist_held(self, worker_address: str, keys: Sequence[str]) -> None:
        self.asked_to_store += [(worker_address, key) for key in keys]
        self._arrival.set()

    def dismiss(self, worker_address: str, because: str) -> None:
        self.dismissed.append((worker_address, because))

    def free_held(self, worker_address: str, keys: Sequence[str]) -> None:
        self.freed += [(worker_address, key) for key in keys]
        self._arrival.set()

    def release(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.in_hand.pop(key, None)
            self.released.append(key)
        self._arrival.set()

    @property
    def attempts(self) -> list[str]:
        return [str(envelope.attempt) for _, envelope in self.sent]

    async def until(self, claim: Callable[[FakeTransport], bool]) -> None:
        """Wait until the claim is true; it is looked at whenever the keeper did something here."""
        async with asyncio.timeout(10) if hasattr(asyncio, "timeout") else _no_limit():
            while not claim(self):
                self._arrival.clear()
                await self._arrival.wait()

    async def until_sent(self, count: int) -> None:
        await self.until(lambda transport: len(transport.sent) >= count)


@asynccontextmanager
async def _no_limit():
    yield


class FakeStore:
    """Published results by key."""

    def __init__(self) -> None:
        self.results: dict[str, Locator] = {}
        self.seen: dict[str, Locator] = {}
        self.asked: list[str] = []
        self.confirmed: list[str] = []
        self.looks = 0

    def lookup(self, store: str, key: str, *, fresh: bool) -> Locator | None:
        self.asked.append(key)
        self.looks += fresh
        found = self.seen.get(key)
        if found is None and fresh:
            self.seen = dict(self.results)
        return self.seen.get(key)

    def confirm(self, store: str, key: str) -> Locator | None:
        self.confirmed.append(key)
        return self.results.get(key)

    def publish(self, task_id: str) -> Locator:
        locator = Locator(STORE, key_of(task_id), blake3(task_id.encode()).hexdigest(), 1)
        self.results[locator.key] = locator
        return locator


@dataclass
class FakeFlight:
    """What a recorder tells; one for all workers."""

    node: str = "n1"
    running: Mapping[AttemptId, float] = field(default_factory=dict)
    ended: Mapping[AttemptId, str] = field(default_factory=dict)
    memory: Mapping[AttemptId, int] = field(default_factory=dict)
    worker_end: str = ""

    def __call__(self, path: str) -> FakeFlight:
        return self


class Clock:
    """Stands still unless moved."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def no_recorder(path: str) -> FakeFlight:
    raise RunDirectoryError(f"cannot read {path!r}")


async def no_word(_: str) -> tuple[ExitReason | None, str]:
    return None, "no answer"


@dataclass
class Stage:
    """A keeper on a fake stage."""

    keeper: Keeper
    transport: FakeTransport
    store: FakeStore
    clock: Clock
    run_dir: Path
    outcomes: dict[str, asyncio.Future[Outcome]] = field(default_factory=dict)
    running: asyncio.Task[None] | None = None

    def submit(self, *specs: TaskSpec) -> None:
        loop = asyncio.get_running_loop()
        pairs = []
        for one in specs:
            future = self.outcomes[one.task_id] = loop.create_future()
            pairs.append((one, future.set_result))
        self.keeper.submit_many(pairs)

    async def outcome(self, task_id: str) -> Outcome:
        return await asyncio.wait_for(self.outcomes[task_id], 10)

    def done(self, attempt: AttemptId, **facts: object) -> None:
        self.keeper.receive(AttemptDone(receipt(attempt, **facts)))  # type: ignore[arg-type]

    def ended(self, attempt: AttemptId, ending: Ending = Ending.EXCEPTION, **facts: object) -> None:
        self.keeper.receive(AttemptEnded(evidence(attempt, ending, **facts)))

    def gone(self, worker: WorkerHello, *, expected: bool = False) -> None:
        self.keeper.receive(WorkerGone(worker.address, self.clock.now, expected, "its connection closed"))

    def journal(self) -> list[Event]:
        """What is on disk now."""
        return list(read_events(self.run_dir / "journal.jsonl"))

    def events(self, kind: type) -> list[Event]:
        return [event for event in self.journal() if isinstance(event, kind)]


@asynccontextmanager
async def stage(
    run_dir: Path,
    *,
    flight: Callable[[str], FakeFlight] = no_recorder,
    word: Callable[[str], Awaitable[tuple[ExitReason | None, str]]] = no_word,
    ledger: Ledger | None = None,
    store: FakeStore | None = None,
    clock: Clock | None = None,
    journal: type[Journal] = Journal,
    hit_of: HitOf = no_hit,
    **options: object,
):
    """Run a keeper over a real journal and pack, with everything else faked, and close it in the end."""
    clock = clock or Clock()
    ledger = ledger or Ledger()
    opened = journal(run_dir / "journal.jsonl", "r", each=ledger.apply, fsync=False)
    files = RunFiles(opened, PayloadPack(run_dir / "payloads.pack", fsync=False))
    transport, store = FakeTransport(), store or FakeStore()
    ports = Ports(transport, store, flight, word, clock, random.Random(1), hit_of=hit_of)
    keeper = Keeper(files, ports, ledger=ledger, **options)  # type: ignore[arg-type]
    made = Stage(keeper, transport, store, clock, run_dir)
    made.running = asyncio.create_task(keeper.run())
    try:
        yield made
    finally:
        await keeper.close()
        await asyncio.wait([made.running])


def law(test):
    """Run a coroutine test on a loop of its own."""

    def run(tmp_path):
        asyncio.run(asyncio.wait_for(test(tmp_path), 60))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def attempt(task_id: str, number: int = 1) -> AttemptId:
    return AttemptId(task_id, number)
