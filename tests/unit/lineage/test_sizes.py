"""How much memory a task is given, and where."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from scalable_hpc.lineage import rulings
from scalable_hpc.lineage.census import demand_of
from scalable_hpc.lineage.lanes import lane_key
from scalable_hpc.lineage.learned import Learned
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.need import Allowance, Offer
from scalable_hpc.lineage.record import TaskState
from scalable_hpc.lineage.roster import Roster, worker_of
from scalable_hpc.lineage.sizes import SAFETY, SHARED, candidates, given, sizes_of
from scalable_hpc.lineage.window import WindowRules, place
from scalable_hpc.model.events import AttemptPlaced, TaskGivenUp
from scalable_hpc.model.messages import AttemptDone
from scalable_hpc.model.resources import Needs, WorkerType
from scalable_hpc.model.tasks import AttemptId, Ending
from tests.unit.lineage.support import NOW, evidence, hello, law, raised, receipt, spec, stage, submitted

GIB = 1 << 30
SMALL = WorkerType("small", cpus=4, slots=4, memory=4 * GIB)
LARGE = WorkerType("large", cpus=8, slots=2, memory=32 * GIB)
OTHER = WorkerType("other", cpus=8, slots=2, memory=64 * GIB, env=(("SOFTWARE", "other"),))
SILENT = WorkerType("silent", cpus=8, slots=2)
KINDS = (SMALL, LARGE, OTHER, SILENT)
OUT_OF_MEMORY = raised("builtins.MemoryError", message="no room")


@pytest.mark.parametrize(
    ("needs", "names"),
    [
        (Needs(), ["small", "large", "other"]),
        (Needs(cpus=6), ["large", "other"]),
        (Needs(memory=999 * GIB), ["small", "large", "other"]),
        (Needs(worker_type="small"), ["small", "large"]),
        (Needs(worker_type="large"), ["small", "large"]),
        (Needs(worker_type="other"), ["other"]),
        (Needs(gpus=1), []),
        (Needs(worker_type="nobody"), []),
    ],
)
def test_that_only_workers_with_the_same_software_stand_in_for_a_tasks_own(needs, names):
    """Those that do not say how much they have are no candidates; memory alone excludes none."""
    assert [kind.name for kind in candidates(KINDS, needs)] == names


MEMORY = st.integers(0, 128 * GIB)


@for_all(
    st.none() | MEMORY.filter(bool),
    MEMORY,
    st.none() | MEMORY,
    st.sampled_from([None, "small", "large", "other"]),
)
def test_that_a_task_is_never_given_less_than_its_word_nor_an_estimate_more_than_there_is(said, floor, likely, name):
    """Its user's word and what it ran out of hold; what its siblings held is capped by the largest worker."""
    needs = Needs(memory=said, worker_type=name)
    kinds = candidates(KINDS, needs)

    result = given(needs, floor, likely, kinds)

    least = max(said or 0, floor)
    if result == needs:
        assert floor <= max(said or 0, 32 * GIB)
        return
    assert least <= result.memory <= max(least, sizes_of(kinds)[-1])
    if name is None:
        assert result.worker_type is None
    elif result.memory <= sizes_of(kinds)[-1]:
        chosen = next(kind for kind in kinds if kind.name == result.worker_type)
        assert chosen.memory >= result.memory


def test_that_siblings_are_believed_only_above_a_slots_share():
    """What slots share with each other is counted in every peak; a little more is no reason to leave slots empty."""
    kinds = candidates(KINDS, Needs(worker_type="small"))
    pinned = Needs(worker_type="small")

    assert given(pinned, 0, GIB + SHARED, kinds) is pinned
    assert given(pinned, 0, 2 * GIB, kinds) == Needs(memory=int(SAFETY * 2 * GIB), worker_type="small")
    assert given(pinned, 0, 20 * GIB, kinds) == Needs(memory=int(SAFETY * 20 * GIB), worker_type="large")
    assert given(pinned, 0, 999 * GIB, kinds) == Needs(memory=32 * GIB, worker_type="large")
    assert given(Needs(memory=3 * GIB), 0, 2 * GIB, kinds) == Needs(memory=3 * GIB)


GROWN = (
    replace(SMALL, name="small-8G", memory=8 * GIB, grown_from="small"),
    replace(SMALL, name="small-64G", memory=64 * GIB, grown_from="small"),
    replace(LARGE, name="large-48G", memory=48 * GIB, grown_from="large"),
)


@pytest.mark.parametrize(
    ("name", "floor", "chosen"),
    [
        ("small", 6, "large"),
        ("small", 40, "small-64G"),
        ("large", 40, "large-48G"),
        ("large", 60, "small-64G"),
        ("small", 70, "small"),
    ],
)
def test_that_a_component_is_asked_for_with_more_only_where_no_other_component_has_enough(name, floor, chosen):
    """What its user has declared comes first, then its own larger requests, then those of its likes."""
    kinds = candidates((*KINDS, *GROWN), Needs(worker_type=name))

    assert given(Needs(worker_type=name), floor * GIB, None, kinds) == Needs(memory=floor * GIB, worker_type=chosen)


def test_that_a_larger_request_that_cannot_be_had_fails_its_tasks_and_nobody_else():
    """Where the batch system refuses it, it is not on offer: who needs it is told what there is."""
    ledger = Ledger()
    for name in ("large", "small"):
        ledger.apply(submitted(name, needs=Needs(worker_type="small")))
    large, small = ledger.tasks["large"], ledger.tasks["small"]
    large.floor_memory = 40 * GIB
    offers = [Offer(kind) for kind in (SMALL, *GROWN[:2])]

    can = Allowance(offers, Learned(), {})
    cannot = Allowance(offers, Learned(), {}, {"small-64G": ()})

    assert can.refusal(large) is None
    assert can.needs(large).worker_type == "small-64G"
    refusal = cannot.refusal(large)
    assert refusal is not None
    assert refusal.error_type == "TaskOutOfMemory"
    assert "'small-8G' has 4 cpus, 8 GiB" in refusal.error
    assert "64 GiB" not in refusal.error
    assert cannot.refusal(small) is None


def test_that_the_memory_of_siblings_is_learned_per_name():
    """What all but the largest five in a hundred held, within 5 %."""
    learned = Learned()
    for _ in range(95):
        learned.completed("f", 1.0, peak_memory=3 * GIB)
    for _ in range(5):
        learned.completed("f", 1.0, peak_memory=30 * GIB)
    learned.completed("g", 1.0)

    assert learned.memory("f") == pytest.approx(3 * GIB, rel=0.06)
    assert learned.memory("g") is None
    assert learned.memory("h") is None


class Scene:
    """A ledger, offers of workers, and those that are here."""

    def __init__(self, *workers) -> None:
        self.ledger = Ledger()
        self.workers = [worker_of(one) for one in workers]

    def place(self):
        allowance = Allowance([Offer(SMALL), Offer(LARGE)], self.ledger.learned, {})
        return place(self.ledger.ready, self.workers, self.ledger.learned, allowance, NOW, WindowRules())


def small(number=1):
    return hello(number, worker_type="small", memory=4 * GIB)


def run_out(ledger: Ledger, task_id: str, **facts: object):
    """Place a task, have it run out of memory, and return what followed."""
    record = ledger.tasks[task_id]
    number = record.attempts + 1
    ledger.apply(AttemptPlaced(NOW, task_id, number, "w", "a", memory=facts.pop("had", GIB)))
    sizes = sizes_of(candidates((SMALL, LARGE), record.needs))
    ended = evidence(AttemptId(task_id, number), Ending.EXCEPTION, exception=OUT_OF_MEMORY, ran_s=1.0, **facts)
    events = rulings.on_evidence(ledger, ended, NOW, random.Random(1), sizes)
    for event in events:
        ledger.apply(event)
    return events


def test_that_a_task_out_of_memory_takes_as_much_of_a_worker_as_it_is_given():
    """A worker of four slots has room for a task of 3G and one slot's share, and no more."""
    scene = Scene(small())
    for name in ("t1", "t2", "t3", "t4"):
        scene.ledger.apply(submitted(name))
    run_out(scene.ledger, "t1", peak_memory=3 * GIB // 2)

    plan = scene.place()

    assert {(one.record.task_id, one.memory) for one in plan.placements} == {("t1", 3 * GIB), ("t2", GIB)}


def test_that_a_task_grows_onto_larger_workers_until_nobody_has_more():
    """Each step is in the journal; replayed, it stands where it stood; then it fails with all figures."""
    ledger, events = Ledger(), [submitted("t", needs=Needs(worker_type="small"))]
    ledger.apply(events[0])
    given_memory, had = [], GIB
    while not ledger.tasks["t"].is_over:
        followed = run_out(ledger, "t", had=had, peak_memory=had)
        given_memory.append(followed[0].next_memory)
        had = followed[0].next_memory
        allowance = Allowance([Offer(SMALL), Offer(LARGE), Offer(OTHER)], ledger.learned, {})
        if had is not None:
            needs = allowance.needs(ledger.tasks["t"])
            assert needs == Needs(memory=had, worker_type="small" if had <= 4 * GIB else "large")
            assert allowance.refusal(ledger.tasks["t"]) is None

    assert given_memory == [2 * GIB, 4 * GIB, 8 * GIB, 16 * GIB, 32 * GIB, None]
    given_up = next(event for event in followed if isinstance(event, TaskGivenUp))
    assert given_up.error_type == "TaskOutOfMemory"
    assert "given 32 GiB" in given_up.error
    assert ledger.tasks["t"].charged == 1


def test_that_a_lane_holds_tasks_that_ask_for_the_same_memory():
    """One that ran out of it does not stand in the way of its siblings."""
    ledger = Ledger()
    ledger.apply(submitted("t1"))
    ledger.apply(submitted("t2"))
    run_out(ledger, "t1")

    assert lane_key(ledger.tasks["t1"]) != lane_key(ledger.tasks["t2"])
    assert [lane.live for lane in ledger.ready.lanes()] == [1, 1]


@law
async def test_that_first_attempts_start_with_what_their_siblings_held(run_dir):
    """Twenty that held 3G, on slots of 1G: the next one is given more than that at once, and the journal says so."""
    async with stage(run_dir, offers=[Offer(SMALL), Offer(LARGE)]) as on:
        on.keeper.receive(small())
        for number in range(20):
            on.submit(spec(f"t{number}"))
            await on.transport.until_sent(number + 1)
            made = receipt(AttemptId(f"t{number}", 1))
            on.keeper.receive(AttemptDone(replace(made, peak_memory=3 * GIB)))
            await on.outcome(f"t{number}")
        on.submit(spec("next"))
        await on.transport.until_sent(21)
        placed = [event for event in on.events(AttemptPlaced) if event.task_id == "next"]

    assert [event.memory for event in placed] == [pytest.approx(3 * GIB * SAFETY, rel=0.06)]
    assert on.transport.sent[-1][1].memory is None, "nobody said that it must not hold more"


def test_that_a_task_that_waits_for_its_retry_is_wanted_where_it_will_fit():
    """The fleet is asked for the worker type that has the memory, not for the one that had not."""
    ledger = Ledger()
    ledger.apply(submitted("t", needs=Needs(worker_type="small")))
    for had in (GIB, 2 * GIB, 4 * GIB, 8 * GIB):
        run_out(ledger, "t", had=had)
    allowance = Allowance([Offer(SMALL), Offer(LARGE)], ledger.learned, {})

    assert ledger.tasks["t"].state is TaskState.BACKOFF
    assert {one.worker_type: one.waiting for one in demand_of(ledger, Roster(), allowance)} == {"small": 0, "large": 1}
