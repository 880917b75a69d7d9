"""Laws of what upkeep chooses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.cache.books import Result
from scalable_hpc.cache.eviction import (
    MERGED_FROM,
    PREFIX,
    SMALL_FILE,
    FileView,
    Limits,
    choose_evictions,
    choose_rewrites,
    footprint,
    total_size,
)
from scalable_hpc.cache.index import Place
from scalable_hpc.cache.records import Entry, Kind
from scalable_hpc.cache.writers import QUIET_S, why_gone, writer_of

NOW = 1_000_000.0


def result(number: int, *, size: int = 10, age: int = 0, blob: int | None = None) -> Result:
    kind, digest = (Kind.PACKED, number) if blob is None else (Kind.BLOB, blob)
    size = size if blob is None else 100 * blob  # one content has one size
    entry = Entry(kind, number.to_bytes(32, "big"), digest.to_bytes(32, "big"), 0, size, int(NOW) - age)
    return Result((Place("w", number, entry),))


results = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(0, 1000), st.none() | st.integers(0, 3)), max_size=20
).map(lambda given: [result(number, size=size, age=age, blob=blob) for number, (size, age, blob) in enumerate(given)])
limits = st.builds(
    Limits, st.none() | st.integers(0, 1000), st.none() | st.integers(0, 1000), st.none() | st.integers(0, 5000)
)


@given(results)
def test_that_nothing_goes_without_a_limit(held):
    """Eviction happens only when asked for."""
    assert choose_evictions(held, Limits(), NOW) == []


@given(results, limits)
def test_that_what_stays_keeps_the_limits(held, limits):
    """Each result goes at most once, with a reason, and what is left breaks no limit."""
    chosen = choose_evictions(held, limits, NOW)
    going = [eviction.result.key for eviction in chosen]
    staying = [each for each in held if each.key not in going]

    assert len(set(going)) == len(going)
    assert all(eviction.because for eviction in chosen)
    assert limits.max_size is None or total_size(staying) <= limits.max_size
    if limits.older_than_s is not None and limits.larger_than is None:
        assert all(NOW - each.created <= limits.older_than_s for each in staying)


@given(results, st.integers(0, 5000))
def test_that_no_more_goes_than_the_size_asks_for(held, size):
    """Without the last eviction the results would not have fitted."""
    chosen = choose_evictions(held, Limits(max_size=size), NOW)
    going = {eviction.result.key for eviction in chosen[:-1]}

    assert not chosen or total_size([each for each in held if each.key not in going]) > size


def test_that_age_and_size_together_mean_both():
    """Only what is old and large goes where both limits are given."""
    held = [result(1, size=9, age=9), result(2, size=1, age=9), result(3, size=9, age=1)]

    chosen = choose_evictions(held, Limits(older_than_s=5, larger_than=5), NOW)

    assert [eviction.result for eviction in chosen] == [held[0]]


def test_that_the_oldest_go_first():
    """To fit a size, the results stored longest ago go."""
    held = [result(1, size=100, age=1), result(2, size=100, age=3), result(3, size=100, age=2)]

    chosen = choose_evictions(held, Limits(max_size=400), NOW)

    assert [eviction.result for eviction in chosen] == [held[1]]


def view(stem: str, *, total: int = 1000, live: int = 1000, gone: str | None = "ended", readable: bool = True):
    return FileView(stem, total, live, gone, readable)


@pytest.mark.parametrize("kept", [view("w", live=0, gone=None), view("w", live=0, readable=False), view("w", live=900)])
def test_that_files_stay_that_may_grow_or_are_not_understood_or_are_full(kept):
    """A living writer's file, one with kinds of a later release, and one with little waste are left alone."""
    assert choose_rewrites([kept]) == []


def test_that_a_wasteful_file_is_rewritten():
    """Much that is dead is worth a rewrite, and the reason says how much."""
    (chosen,) = choose_rewrites([view("w", live=100)])

    assert (chosen.stem, chosen.because) == ("w", "900 B of 1000 B are dead")


def test_that_many_small_files_become_one_and_few_stay():
    """Merging waits until there is something to gain."""
    many = [view(str(number)) for number in range(MERGED_FROM)]
    large = view("large", total=SMALL_FILE, live=SMALL_FILE)

    assert [each.stem for each in choose_rewrites([*many, large])] == [each.stem for each in many]
    assert choose_rewrites(many[1:]) == []


@pytest.mark.parametrize(
    ("stem", "touched", "gone"),
    [
        ("node-1-77-abcdef01-0", NOW, False),  # lives here
        ("node-1-78-abcdef01-0", NOW, True),  # ended here
        ("node-1-77-abcdef01-0", NOW - 2 * QUIET_S, False),  # lives here and was quiet
        ("node-2-78-abcdef01-0", NOW - QUIET_S / 2, False),  # elsewhere: who knows
        ("node-2-78-abcdef01-0", NOW - 2 * QUIET_S, True),
        ("oddly_named", NOW, False),
    ],
)
def test_that_a_writer_counts_as_gone_only_when_that_is_known(stem, touched, gone):
    """On this host its process says it; elsewhere only a silence longer than any job."""
    because = why_gone(stem, touched, here="node-1", lives=lambda pid: pid == 77, now=NOW)

    assert (because is not None) == gone


def test_that_hosts_may_have_dashes_in_their_names():
    """A writer's name is read from its end."""
    assert writer_of("cn-01-rack-4-123-0badcafe-2") == ("cn-01-rack-4", 123)


def test_that_what_a_run_names_stays_whatever_the_limits():
    """Neither age nor size takes it, and it counts towards what all results take."""
    entries = [Entry(Kind.PACKED, bytes([n]) * 32, bytes([n]) * 32, 0, 100, int(NOW) - 100 + n) for n in range(4)]
    held = [Result((Place("w", n, entry),)) for n, entry in enumerate(entries)]
    kept = frozenset({entries[0].key[:PREFIX]})

    by_age = choose_evictions(held, Limits(older_than_s=1, kept=kept), NOW)
    by_size = choose_evictions(held, Limits(max_size=2 * footprint(held[0]), kept=kept), NOW)

    assert [each.result for each in by_age] == held[1:]
    assert [each.result for each in by_size] == held[1:3]
