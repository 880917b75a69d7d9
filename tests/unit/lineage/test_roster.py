"""Who is connected, and what they have in hand."""

from __future__ import annotations

from dataclasses import replace

from scalable_hpc.lineage.need import Arrivals
from scalable_hpc.lineage.roster import Roster
from scalable_hpc.model.resources import Needs
from scalable_hpc.model.tasks import AttemptId
from tests.unit.lineage.support import NOW, hello

A, B, C = (AttemptId(name, 1) for name in "abc")


def with_worker(**changes) -> tuple[Roster, str]:
    roster = Roster()
    said = hello(**changes)
    roster.hello(said, NOW)
    return roster, said.address


def test_that_a_bundle_is_in_hand_until_its_last_attempt_is_over():
    """Then its key is told, once."""
    roster, address = with_worker()
    roster.assign(address, "k", [A, B], Needs())

    assert roster.accounted(A) is None
    assert roster.get(address).assigned == 1
    assert roster.accounted(B) == "k"
    assert roster.accounted(B) is None
    assert roster.get(address).assigned == 0


def test_that_needs_are_counted_in_and_out():
    """cpus, gpus and memory; without a word on memory, a slot's share."""
    roster, address = with_worker(slots=4, cpus=8, memory=64, gpus=2)
    worker = roster.get(address)
    roster.assign(address, "k", [A], Needs(cpus=3, gpus=1))
    roster.assign(address, "l", [B], Needs(memory=40))

    assert (worker.cpus_used, worker.gpus_used, worker.memory_used) == (4, 1, 56)
    roster.accounted(A)
    roster.accounted(B)
    assert (worker.cpus_used, worker.gpus_used, worker.memory_used) == (0, 0, 0)


def test_that_a_worker_that_says_hello_again_keeps_its_work():
    """Its deadline may have been extended."""
    roster, address = with_worker(deadline=NOW + 100)
    roster.assign(address, "k", [A], Needs())
    roster.hello(hello(deadline=NOW + 500), NOW)

    assert roster.get(address).assigned == 1
    assert roster.get(address).time_left_s(NOW) == 500


def test_that_an_address_can_be_another_allocations_later():
    """Ports are given out again: the new worker has nothing in hand."""
    roster, address = with_worker()
    roster.assign(address, "k", [A], Needs())
    roster.remove(address)
    roster.hello(replace(hello(), allocation="a0009"), NOW)

    assert roster.get(address).assigned == 0
    assert roster.accounted(A) is None


def test_that_a_lost_worker_is_returned_with_what_it_had():
    """Its attempts are nobody's until they are spoken of."""
    roster, address = with_worker()
    roster.assign(address, "k", [A, B], Needs())
    lost = roster.remove(address)

    assert lost.loads["k"].attempts == {A, B}
    assert roster.place_of(A) is None
    assert roster.remove(address) is None


def test_that_busy_counts_attempts_and_names_idle_allocations():
    """The fleet must see which allocation has nothing to do."""
    roster, address = with_worker()
    roster.hello(hello(2), NOW)
    roster.assign(address, "k", [A, B], Needs())
    roster.assign(address, "l", [C], Needs())

    assert roster.busy() == {"a0001": 3, "a0002": 0}


def test_that_one_slow_start_is_not_taken_for_the_rule():
    """What allocations really leave is known from three workers on; the best of them counts."""
    roster = Roster()
    for number, left_s in enumerate([30, 55, 50], start=1):
        assert roster.arrivals("cpu").longest_s is None
        roster.hello(hello(number, deadline=NOW + left_s), NOW)

    assert roster.arrivals("cpu").longest_s == 55


def test_that_an_allocation_that_was_asked_for_less_says_nothing_against_longer_ones():
    """It came five seconds late, as a whole one would have."""
    roster = Roster()
    for number, (left_s, asked_s) in enumerate([(25, 30), (25, 30), (595, 600)], start=1):
        roster.hello(hello(number, deadline=NOW + left_s, walltime_s=asked_s), NOW)

    assert roster.arrivals("cpu", 600) == Arrivals(595, 595)
    assert roster.arrivals("cpu", None) == Arrivals(595, 25)


def test_that_what_workers_usually_have_is_not_what_the_luckiest_had():
    """Three of four have more; a single one is believed at once."""
    roster = Roster()
    usual = [roster.arrivals("cpu").usual_s]
    for number, left_s in enumerate([55, 30, 50, 45], start=1):
        roster.hello(hello(number, deadline=NOW + left_s), NOW)
        usual.append(roster.arrivals("cpu").usual_s)

    assert usual == [None, 55, 30, 30, 45]


def test_that_draining_a_stranger_is_no_error():
    """A warning may come from a worker that is gone already."""
    Roster().drain("tls://nobody", "x")
