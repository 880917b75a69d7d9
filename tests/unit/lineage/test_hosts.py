"""Hosts that do harm: held against them what succeeded elsewhere, never what tasks did themselves, never for ever."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.lineage.hosts import HostBook, HostRules
from scalable_hpc.model.events import (
    AllocationChanged,
    AttemptExplained,
    AttemptFailed,
    HostsTrusted,
    ReceiptTaken,
)
from tests.unit.lineage.support import NOW

RULES = HostRules()
HOUR = 3600.0


def lost(task: str, host: str, at: float, **changes: object) -> AttemptFailed:
    made = AttemptFailed(at, task, 1, "worker_lost", "infrastructure", False, "again", "x", allocation="a1", node=host)
    return replace(made, **changes)  # type: ignore[arg-type]


def done(task: str, host: str, at: float = NOW) -> ReceiptTaken:
    return ReceiptTaken(at, task, 2, "d", 1, at - 1, at, 1, host, "a2")


def changed(name: str, state: str, host: str, at: float, reason: str | None = None) -> AllocationChanged:
    return AllocationChanged(at, name, state, "x", worker_type="cpu", nodes=(host,), reason=reason)


class Story:
    """A book, and what it says as time goes by."""

    def __init__(self, rules: HostRules = RULES) -> None:
        self.book, self.rules = HostBook(), rules

    def tell(self, *events: object) -> list[str]:
        """Tell what happened; return the hosts that are suspected for it."""
        found = []
        for event in events:
            match event:
                case AttemptFailed():
                    self.book.attempt_failed(event)
                case AttemptExplained():
                    self.book.explained(event)
                case ReceiptTaken():
                    self.book.delivered(event)
                case AllocationChanged():
                    self.book.allocation_changed(event)
                case HostsTrusted():
                    self.book.trusted(event)
            for suspicion in self.book.suspects(event.at, self.rules):
                self.book.suspected(suspicion)
                found.append(suspicion.host)
        return found

    def twice_lost(self, host: str = "bad", at: float = NOW, **changes: object) -> list[str]:
        """Two tasks, ten minutes apart, are lost on one host and succeed on another."""
        return self.tell(
            lost("t1", host, at, **changes),
            done("t1", "good", at + 5),
            lost("t2", host, at + 600, **changes),
            done("t2", "good", at + 605),
        )


def test_that_a_host_is_excluded_where_work_fails_that_succeeds_elsewhere():
    """Twice: once may be anybody's bad luck. It says why, and until when."""
    story = Story()
    assert story.tell(lost("t1", "bad", NOW), done("t1", "good", NOW + 5)) == []
    story.tell(lost("t2", "bad", NOW + 600))
    story.book.delivered(done("t2", "good", NOW + 605))

    [suspicion] = story.book.suspects(NOW + 605, RULES)
    story.book.suspected(suspicion)
    assert suspicion.host == "bad"
    assert "bad 2 times within 10 min and succeeded elsewhere (worker lost)" in suspicion.because
    assert story.book.excluded(NOW + 606) == ("bad",)


def test_that_an_exclusion_expires():
    """Nodes are repaired. What was held against it is used up: it takes two new faults to exclude it again."""
    story = Story()
    assert story.twice_lost() == ["bad"]

    assert story.book.excluded(NOW + 605 + HOUR - 1) == ("bad",)
    assert story.book.excluded(NOW + 605 + HOUR) == ()
    assert story.tell(lost("t3", "bad", NOW + 2 * HOUR), done("t3", "good", NOW + 2 * HOUR)) == []


def test_that_success_on_the_same_host_or_none_at_all_proves_nothing():
    """The task may be the cause, or the whole site."""
    story = Story()
    story.tell(done("other", "good"))
    for number in range(5):
        at = NOW + 100 * number
        assert story.tell(lost(f"t{number}", "bad", at), done(f"t{number}", "bad", at + 5)) == []
        assert story.tell(lost(f"u{number}", "bad", at)) == []


@pytest.mark.parametrize("reason", ["timeout", "preempted", "cancelled", "requeued", "deadline", "out_of_memory"])
def test_that_what_ends_allocations_on_healthy_nodes_never_counts(reason):
    """Walltimes end everywhere."""
    assert Story().twice_lost(allocation_reason=reason) == []


@pytest.mark.parametrize(
    ("ending", "verdict"),
    [
        ("exception", "permanent"),
        ("exception", "transient"),
        ("slot_died", "killer"),
        ("worker_lost", "killer"),
        ("worker_lost", "expected"),
        ("timeout", "resource"),
    ],
)
def test_that_what_tasks_do_themselves_never_counts(ending, verdict):
    """A data error is not the node's, and a killer takes down any node."""
    assert Story().twice_lost(ending=ending, verdict=verdict) == []


def test_that_many_attempts_lost_together_are_one_incident():
    """A node that dies under sixty tasks has died once."""
    story = Story()
    tasks = [f"t{number}" for number in range(60)]
    assert story.tell(*(lost(task, "bad", NOW) for task in tasks)) == []
    assert story.tell(*(done(task, "good", NOW + 10) for task in tasks)) == []


def test_that_incidents_are_forgotten_after_an_hour():
    """A node that fails once a day is as good as any."""
    story = Story()
    story.tell(lost("t1", "bad", NOW), done("t1", "good", NOW + 5))

    assert story.tell(lost("t2", "bad", NOW + HOUR + 1), done("t2", "good", NOW + HOUR + 6)) == []


def test_that_a_late_word_takes_a_fault_back():
    """It was lost, and nobody said why; then the batch system says that the walltime was over."""
    story = Story()
    story.tell(lost("t1", "bad", NOW), done("t1", "good", NOW + 5))
    story.tell(lost("t2", "bad", NOW + 600, verdict="unknown"))
    story.tell(AttemptExplained(NOW + 601, "t2", 1, "a1", "timeout", "TIMEOUT"))

    assert story.tell(done("t2", "good", NOW + 605)) == []


def test_that_hosts_where_workers_do_not_start_are_excluded():
    """No task ran there: the proof is a worker of the same type on another host."""
    story = Story()
    fails = [
        changed(f"a{number}", state, "bad", NOW + 10 * number, "failed" if state == "ended" else None)
        for number in (1, 2)
        for state in ("starting", "ended")
    ]
    assert story.tell(*fails) == []
    assert story.tell(changed("a3", "live", "good", NOW + 30)) == ["bad"]


def test_that_a_whole_site_is_never_excluded():
    """No more hosts than others were seen to do well: the next allocation must have somewhere to go."""
    story = Story()
    suspected = [*story.twice_lost("h1"), *story.twice_lost("h2"), *story.twice_lost("h3")]

    assert suspected == ["h1"], "only one other host did well"


def test_that_hosts_may_be_trusted_again_before_their_time():
    """The batch system has no other node for us."""
    story = Story()
    story.twice_lost()
    story.tell(HostsTrusted(NOW + 700, ("bad",), "refused"))

    assert story.book.excluded(NOW + 701) == ()


def test_that_exclusion_can_be_turned_off():
    """``exclude_hosts_for: 0``."""
    assert Story(HostRules(exclude_for_s=0)).twice_lost() == []


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6), st.booleans(), st.integers(0, 2000)), max_size=40))
def test_that_replay_excludes_the_same_hosts(steps):
    """The next driver knows what this one learned, from the events alone; and some host is always left."""
    story, again, at = Story(), HostBook(), NOW
    for host, task, succeeds, later in steps:
        at += later
        event = done(f"t{task}", f"h{host}", at) if succeeds else lost(f"t{task}", f"h{host}", at)
        for book in (story.book, again):
            (book.delivered if succeeds else book.attempt_failed)(event)
        for suspicion in story.book.suspects(at, RULES):
            story.book.suspected(suspicion)
            again.suspected(suspicion)

    assert again.excluded(at) == story.book.excluded(at)
    assert len(again.excluded(at)) <= 2
