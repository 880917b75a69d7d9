"""Who brought a whole worker down: suspects run alone, the guilty is found in one pass, nobody else is charged."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from scalable_hpc.faults.history import TaskHistory
from scalable_hpc.faults.judge import judge
from scalable_hpc.lineage.explanations import Explanations
from scalable_hpc.lineage.record import TaskState
from scalable_hpc.model.allocations import ExitReason, JobEnding
from scalable_hpc.model.events import AttemptFailed, AttemptPlaced, TaskGivenUp
from scalable_hpc.model.tasks import Ending, Evidence, RetryPolicy
from tests.unit.lineage.life import Life
from tests.unit.lineage.support import NOW, attempt, hello, submitted

DEATHS = [
    {"reason": "failed"},
    {"reason": None, "worker_end": "SIGKILL"},
    {"reason": "failed", "worker_end": "SIGKILL"},
]


def live(life: Life, killers: set[str], death: dict[str, str | None], *, workers: int, most_lost: int) -> int:
    """Let time pass until all is over: each killer takes its worker along, the others finish; return workers lost.

    A worker that died is replaced, as the fleet would.
    """
    lost = 0
    for _ in range(400):
        while len(life.nodes) < workers:
            life.add_worker("cpu", None)
        life.tick()
        life.now += 1.0
        guilty = [node for node in life.nodes.values() if any(one.task_id in killers for one in node.running)]
        for node in guilty:
            life.lose(node, **death)
            lost += 1
        assert lost <= most_lost
        if not guilty:
            for node, attempt in life.executing():
                life.finish(node, attempt)
        while life.mail:
            life.deliver(0)
        if not life.ledger.unfinished:
            return lost
    raise AssertionError("it did not come to an end")


@given(
    innocents=st.integers(0, 20),
    place=st.integers(0, 20),
    workers=st.integers(1, 5),
    death=st.sampled_from(DEATHS),
    kind=st.sampled_from(["cpu", "long"]),
)
@settings(max_examples=60, deadline=None)
def test_that_one_killer_among_innocents_is_convicted_and_nobody_else_is_charged(
    innocents, place, workers, death, kind
):
    """It costs the worker where it ran with others and the one where it ran alone, whatever the fleet's size."""
    life = Life()
    names = [f"t{number}" for number in range(innocents)]
    names.insert(min(place, innocents), "killer")
    for name in names:
        life.submit(submitted(name, name=kind))

    lost = live(life, {"killer"}, death, workers=workers, most_lost=2)

    states = {name: record.state for name, record in life.ledger.tasks.items()}
    assert {name for name, state in states.items() if state is TaskState.FAILED} == {"killer"}
    assert {event.task_id for event in life.journal if isinstance(event, AttemptFailed) and event.charged} == {"killer"}
    assert lost == 2
    assert [event.error_type for event in life.journal if isinstance(event, TaskGivenUp)] == ["TaskKilled"]
    life.check_replay()


@given(killers=st.integers(2, 4), innocents=st.integers(0, 12), workers=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_that_several_killers_are_all_convicted_and_nobody_else(killers, innocents, workers):
    """Each costs two workers at most."""
    life = Life()
    guilty = {f"killer{number}" for number in range(killers)}
    for name in [*sorted(guilty), *(f"t{number}" for number in range(innocents))]:
        life.submit(submitted(name))

    live(life, guilty, DEATHS[0], workers=workers, most_lost=2 * killers)

    failed = {name for name, record in life.ledger.tasks.items() if record.state is TaskState.FAILED}
    charged = {event.task_id for event in life.journal if isinstance(event, AttemptFailed) and event.charged}
    assert failed == charged == guilty


def suspects_of(life: Life, count: int, *, death: dict[str, str | None] = DEATHS[0]) -> None:
    """Have so many tasks lose the worker that they ran on together."""
    life.add_worker("cpu", None)
    for number in range(count):
        life.submit(submitted(f"t{number}"))
    life.tick()
    [node] = life.nodes.values()
    life.lose(node, **death)
    while life.mail:
        life.deliver(0)


def running_together(life: Life) -> Counter[str]:
    return Counter(node.address for node in life.nodes.values() for _ in node.running)


def test_that_a_suspect_shares_its_allocation_with_nobody():
    """Not with another suspect, not with anybody who waits; what is left of the fleet goes on with the others."""
    life = Life()
    suspects_of(life, 3)
    for number in range(20):
        life.submit(submitted(f"other{number}"))
    for _ in range(4):
        life.add_worker("cpu", None)
    life.tick()

    alone = [event for event in life.journal if isinstance(event, AttemptPlaced) and event.alone]
    assert {event.task_id for event in alone} == {"t0", "t1"}, "half of four allocations"
    assert sorted(running_together(life).values()) == [1, 1, 4, 4]
    assert life.tick() == 0, "while they run nobody joins them"


def test_that_a_worker_of_a_busy_sibling_is_no_place_to_be_alone():
    """A job script that dies takes all nodes of its allocation along."""
    life = Life()
    suspects_of(life, 1)
    busy, idle = hello(7, allocation="twins"), hello(8, allocation="twins")
    life.roster.hello(busy, NOW)
    life.roster.hello(idle, NOW)
    life.roster.assign(busy.address, "x", [], life.ledger.tasks["t0"].needs)

    assert life.tick() == 0


def test_that_an_acquitted_suspect_runs_with_others_again():
    """One that raises something did not take its worker along: what follows is its own affair."""
    life = Life()
    suspects_of(life, 1)
    life.add_worker("cpu", None)
    life.tick()
    assert life.ledger.tasks["t0"].suspicions == 1
    [(node, attempt)] = life.executing()
    life.end(node, attempt, Ending.SLOT_DIED, signal=11)
    life.deliver(0)
    life.submit(submitted("other"))
    life.add_worker("cpu", None)
    life.tick()

    assert life.ledger.tasks["t0"].suspicions == 0
    assert not [e for e in life.journal if isinstance(e, AttemptPlaced)][-1].alone
    assert life.ledger.tasks["t0"].state is TaskState.SENT


def test_that_a_suspect_in_company_is_not_convicted():
    """Word came while it ran with others that it is one; that they all went down together proves nothing more."""
    died = Evidence(attempt("t0"), Ending.WORKER_LOST, NOW, ran_s=1.0, together=2, worker_end="SIGKILL")
    before = TaskHistory(suspicions=1)

    assert not judge(died, before, RetryPolicy()).charged
    assert judge(replace(died, together=1), before, RetryPolicy()).charged
    assert not judge(replace(died, together=1), TaskHistory(), RetryPolicy()).charged, "once may be anybody's"


LOST = AttemptFailed(
    NOW, "t0", 1, "worker_lost", "unknown", False, "again", "its worker was lost", allocation="a1", together=3
)
SUSPECTED = replace(LOST, verdict="killer")


def told_later(failed: AttemptFailed, ending: JobEnding) -> list[bool | None]:
    explanations = Explanations()
    explanations.await_word(failed, NOW)
    return [event.suspect for event in explanations.explain("a1", ending, NOW + 5)]


def test_that_the_batch_systems_late_word_clears_or_suspects():
    """A failed node clears who was suspected; a killed job makes suspects of those that it was silent about."""
    node_fail = JobEnding(ExitReason.NODE_FAIL, "NODE_FAIL")
    killed = JobEnding(ExitReason.FAILED, "FAILED 0:9", signal=9)
    gave_up = JobEnding(ExitReason.FAILED, "FAILED 3:0", exit_code=3)

    assert told_later(SUSPECTED, node_fail) == [False]
    assert told_later(LOST, node_fail) == [None]
    assert told_later(LOST, killed) == [True]
    assert told_later(SUSPECTED, killed) == [None]
    assert told_later(LOST, gave_up) == [None], "the launcher ended by itself"
    assert told_later(replace(LOST, together=None), killed) == [None], "it was not executing"


def test_that_a_late_word_moves_what_waits_between_the_lanes():
    """A suspect that was cleared before it ran again shares a worker; one that became one does not."""
    life = Life()
    suspects_of(life, 2, death={"reason": None})
    explanations = Explanations()
    for event in list(life.journal):
        if isinstance(event, AttemptFailed):
            explanations.await_word(replace(event, allocation="a1"), NOW)
    life.tell(list(explanations.explain("a1", JobEnding(ExitReason.FAILED, "FAILED 0:9", signal=9), life.now)))
    life.add_worker("cpu", None)

    assert life.tick() == 1
    assert life.ledger.tasks["t1"].suspicions == 1
    life.check_replay()


def test_that_silence_convicts_nobody():
    """However often a task loses the worker that it ran alone on: power may be failing, node by node."""
    life = Life()
    life.submit(submitted("t0"))
    for _ in range(5):
        life.add_worker("cpu", None)
        life.tick()
        [(node, attempt)] = life.executing()
        del life.nodes[node.address]
        life.roster.remove(node.address)
        evidence = Evidence(attempt, Ending.WORKER_LOST, life.now, worker=node.address, ran_s=1.0, together=1)
        life.mail.append(evidence)
        life.deliver(0)
        life.now += 100

    assert life.ledger.tasks["t0"].charged == 0
    assert not life.ledger.tasks["t0"].is_over
