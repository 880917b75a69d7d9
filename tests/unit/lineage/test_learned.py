"""What run times teach."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.lineage.learned import CUT_OFF_FACTOR, HOPE, SAFETY, SAFETY_FEW, Learned, Need


def taught(*seconds: float) -> Learned:
    learned = Learned()
    for second in seconds:
        learned.completed("f", second)
    return learned


def test_that_nothing_is_known_at_first():
    """No guess is made."""
    learned = Learned()

    assert (learned.need("f"), learned.mean_s("f"), learned.count("f")) == (Need(None, None), None, 0)


def test_that_the_need_is_the_p95_with_a_safety_factor():
    """Within the five percent of a class."""
    seconds = [random.Random(1).uniform(10, 20) for _ in range(2000)]

    assert taught(*seconds).need("f").warm_s == pytest.approx(sorted(seconds)[1900] * SAFETY, rel=0.06)


def test_that_a_few_receipts_ask_for_more_caution():
    """A p95 of one is the one."""
    assert taught(10.0).need("f").warm_s == pytest.approx(10.0 * SAFETY_FEW, rel=0.06)


def test_that_rare_long_tasks_do_not_rule_the_need():
    """Four of a hundred are beyond the p95."""
    assert taught(*[1.0] * 96, *[100.0] * 4).need("f").warm_s < 2


def test_that_cut_off_attempts_are_all_that_is_known_without_receipts():
    """The longest lower bound, and some more."""
    learned = Learned()
    learned.cut_off("f", 30.0)
    learned.cut_off("f", 20.0)

    assert learned.need("f").warm_s == 30.0 * CUT_OFF_FACTOR


def test_that_names_are_learned_apart():
    """Another task's time is no hint."""
    assert taught(10.0).need("g") == Need()


@given(st.lists(st.floats(-5, 1e6), min_size=1, max_size=50))
def test_that_any_times_give_a_sane_answer(seconds):
    """Clocks step back, tasks take nothing: mean and need stay numbers, the need above the p95."""
    learned = taught(*seconds)

    assert 0 <= learned.mean_s("f") <= max(0.0, *seconds) + 1e-9
    assert learned.need("f").warm_s >= sorted(max(second, 0.0) for second in seconds)[int(0.94 * len(seconds))] * 0.99
    assert learned.count("f") == len(seconds)


def test_that_the_same_lessons_in_another_order_teach_the_same():
    """Replay may meet them in the journal's order, not the live one."""
    seconds = [random.Random(2).choice([1.0, 2.0, 4.0]) for _ in range(100)]

    assert taught(*seconds) == taught(*sorted(seconds))


def test_that_first_runs_in_a_slot_are_learned_apart():
    """Eight seconds of imports do not make a task of a tenth of a second long, but a new worker must allow for them."""
    learned = Learned()
    for _ in range(20):
        learned.completed("f", 8.0, cold=True)
        learned.completed("f", 0.1)
    need = learned.need("f")

    assert need.warm_s == pytest.approx(0.1 * SAFETY, rel=0.06)
    assert need.cold_s == pytest.approx(8.0 * SAFETY, rel=0.06)
    assert learned.mean_s("f") == pytest.approx(0.1)
    assert learned.count("f") == 20


def test_that_a_second_run_in_a_slot_is_given_a_chance():
    """No slot has time for two first runs: as long as nobody has seen a second one, it is hoped to be shorter."""
    learned = Learned()
    learned.completed("f", 8.0, cold=True)

    assert learned.need("f").warm_s == learned.typical_s("f") == pytest.approx(HOPE * 8.0)
    assert learned.need("f").cold_s > 8.0


def test_that_hope_ends_where_a_second_run_was_cut_off():
    """It had seven seconds, and needs more: as much as a first run, for all that is known."""
    learned = Learned()
    learned.completed("f", 8.0, cold=True)
    learned.cut_off("f", 7.0)

    assert learned.need("f").warm_s == pytest.approx(7.0 * CUT_OFF_FACTOR)
    assert learned.typical_s("f") == 8.0


def test_that_a_first_run_that_was_cut_off_says_nothing_of_second_ones():
    """Fourteen seconds at a walltime: that was imports, or a task that is long in any slot."""
    learned = Learned()
    learned.completed("f", 8.0, cold=True)
    learned.cut_off("f", 14.0)

    assert learned.need("f").warm_s == pytest.approx(HOPE * 8.0)
    assert learned.mean_s("f") == 8.0


def test_that_a_new_worker_is_never_thought_quicker():
    """Where cold runs happened to be short, the warm need holds for all."""
    learned = Learned()
    learned.completed("f", 1.0, cold=True)
    learned.completed("f", 50.0)

    assert learned.need("f").cold_s == learned.need("f").warm_s
