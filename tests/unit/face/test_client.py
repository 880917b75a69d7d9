"""The client and its futures, against a run that answers from a dictionary."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import gc
import pickle
from functools import partial
from typing import NamedTuple

import cloudpickle
import pytest

from scalable_hpc.cache.decorator import cacheable
from scalable_hpc.client import ScalableClient
from scalable_hpc.errors import AncestorFailed
from scalable_hpc.future import ScalableFuture
from scalable_hpc.gathering import BatchFailed
from scalable_hpc.model.tasks import Locator, ResultRef, RetryPolicy, TaskSpec


class InstantRun:
    """Runs every call at once in this process; keeps what it was given."""

    def __init__(self, *, hold: bool = False) -> None:
        self.specs: dict[str, TaskSpec] = {}
        self.values: dict[str, object] = {}
        self.known_values: dict[str, object] = {}
        self.cancelled: list[str] = []
        self.hits: dict[str, int] = {}
        self.held: list = []
        self.looks = 0
        self.watched_counts: list[int] = []
        self.hold = hold
        self.closed = False

    def cache_of(self, name):
        return None

    def is_pure(self, name):
        return True

    def persists(self, name):
        return name != "near"

    has_past = False

    def specify(self, call):
        task_id = f"{call.name}-{len(self.specs):05d}"
        key = call.options.key or call.cache_key or task_id
        spec = TaskSpec(
            task_id, call.name, key, call.function, call.arguments, "store", call.ancestors, label=call.label
        )
        self.specs[task_id] = spec
        return spec

    def known(self, specs):
        self.looks += 1
        return [Locator("store", spec.key, "", 0) if spec.key in self.known_values else None for spec in specs]

    def watched(self, calls, count):
        self.watched_counts.append(count)
        return calls

    def load(self, spec, locator, above=()):
        return self.known_values[spec.key]

    def describe(self):
        return "run '7' on target 'here': all done"

    def put(self, value, label):
        future = ScalableFuture(task_id="put-1", key="k", label=label, owner=self)
        self.values["k"] = value
        future.set_result(value)
        return future

    def accept(self, pairs):
        for spec, future in pairs:
            self.held.append((spec, future)) if self.hold else self.complete(spec, future)

    def complete(self, spec, future):
        function = pickle.loads(spec.function.inline)
        args, kwargs = pickle.loads(spec.arguments.inline)
        try:
            args = [self.value_of(value.key) if isinstance(value, ResultRef) else value for value in args]
            self.values[spec.key] = function(*args, **kwargs)
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(self.values[spec.key])

    def value_of(self, key):
        if key not in self.values:
            raise AncestorFailed("not run")
        return self.values[key]

    def count_hits(self, name, keys):
        self.hits[name] = self.hits.get(name, 0) + len(keys)

    def cancel_task(self, task_id):
        self.cancelled.append(task_id)

    def is_running(self, task_id):
        return True

    def finish(self, *, wait, cancel):
        pass

    def close(self):
        self.closed = True


def fail_for_three(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number


class Pair(NamedTuple):
    left: object
    right: object


def test_that_map_returns_futures_in_the_order_of_the_calls():
    """The i-th future is the i-th call."""
    client = ScalableClient(InstantRun())

    assert client.gather(client.map(pow, range(5), [2] * 5)) == [0, 1, 4, 9, 16]


def shaped(scenario_id, *, width=1):
    return scenario_id * width


def passing_on(*args, **kwargs):
    more = kwargs.pop("more")
    return shaped(*args, width=kwargs["width"] + more)


@pytest.mark.parametrize(
    ("function", "named", "guess"),
    [
        (shaped, {"expected_runtme": 3}, "'expected_runtime'"),
        (shaped, {"widht": 3}, "'width'"),
        (cacheable(shaped), {"widht": 3}, "'width'"),
        (partial(shaped, 1), {"time_out": 3}, "'timeout'"),
        (len, {"memroy": "2G"}, "'memory'"),
    ],
    ids=["option", "parameter", "cacheable", "partial", "builtin"],
)
def test_that_a_misspelt_keyword_is_refused_before_anything_is_sent(function, named, guess):
    """With the nearest name, be it an option of ours or a parameter of the function."""
    run = InstantRun()

    with pytest.raises(TypeError, match=rf"has no parameter .*; did you mean {guess}\?"):
        ScalableClient(run).map(function, range(3), **named)

    assert not run.specs


def test_that_what_wraps_a_function_may_take_more_than_it_does():
    """A decorator's own keyword is not taken for a mistake."""
    wrapped = functools.wraps(shaped)(passing_on)

    assert ScalableClient(InstantRun()).submit(wrapped, 2, width=3, more=4).result() == 14


def test_that_a_client_says_which_run_it_has():
    """In a notebook's cell, say."""
    assert repr(ScalableClient(InstantRun())) == "<ScalableClient of run '7' on target 'here': all done>"


def test_that_our_keywords_do_not_reach_the_function():
    """What is ours is kept, what is not is passed on."""
    run = InstantRun()
    client = ScalableClient(run)

    future = client.submit(dict, a=1, task="t", retries=2, timeout="90s", memory="1G", priority=3)

    assert future.result() == {"a": 1}


@pytest.mark.parametrize(
    "options",
    [
        {"retries": -1},
        {"retries": True},
        {"cpus": 0},
        {"timeout": 0},
        {"timeout": "soon"},
        {"memory": "lots"},
        {"task": ""},
        {"retry": 3},
        {"priority": "high"},
        {"checkpoints": "yes"},
        {"pure": "no"},
        {"persist": 0},
        {"persist": False, "key": "k"},
        {"pure": False, "persist": False},
        {"verify_pure": "all"},
        {"verify_pure": 1.5},
        {"verify_pure": True},
        {"verify_pure": 0.5, "pure": False},
    ],
)
def test_that_a_wrong_option_is_refused_with_its_value(options):
    """The name of the option and the value are in the message."""
    client = ScalableClient(InstantRun())
    (name, value), *_ = options.items()

    with pytest.raises((TypeError, ValueError)) as caught:
        client.submit(int, **options)

    assert repr(value) in str(caught.value)
    assert name in str(caught.value) or isinstance(value, str)


def test_that_what_was_put_is_an_argument_like_any_result():
    """By either name; the label is the value, shortened."""
    client = ScalableClient(InstantRun())
    there = client.put(7)

    assert (there.result(), there.label) == (7, "7")
    assert client.submit(pow, there, 2).result() == 49
    assert client.scatter([1, 2]).result() == [1, 2]


def test_that_putting_what_cannot_be_put_is_refused():
    """A future is an argument already; a closed run takes nothing."""
    client = ScalableClient(InstantRun())
    with pytest.raises(TypeError, match="needs no put"):
        client.put(client.put(1))
    client.close()

    with pytest.raises(RuntimeError, match="close"):
        client.put(1)


def test_that_futures_may_be_nested_in_arguments():
    """Lists, tuples, named tuples and dicts are looked into; the ancestors are noted once each."""
    run = InstantRun(hold=True)
    client = ScalableClient(run)
    one = client.submit(int, 1)
    whole = client.submit(print, [one, {"deep": (one, 2)}], Pair(one, 3))

    spec = run.specs[whole.task_id]
    args, _ = cloudpickle.loads(spec.arguments.inline)

    ref = ResultRef(one.task_id, one.key)
    assert args == ([ref, {"deep": (ref, 2)}], Pair(ref, 3))
    assert isinstance(args[1], Pair)
    assert spec.ancestors == (ref,)


def test_that_a_future_outside_arguments_cannot_be_smuggled_in():
    """A future in a closure is refused with a word on what to do."""
    client = ScalableClient(InstantRun(hold=True))
    future = client.submit(int, 1)

    with pytest.raises(TypeError, match="pass it as an argument"):
        client.submit(lambda: future)


def test_that_one_failure_does_not_disturb_the_others():
    """collect never raises, and sorts."""
    client = ScalableClient(InstantRun())

    batch = client.collect(client.map(fail_for_three, range(6)))

    assert batch.results() == [0, 1, 2, 4, 5]
    assert [future.label for future in batch.failed] == ["fail_for_three(3)"]
    assert batch.summary() == "5 of 6 succeeded, 1 failed\n  fail_for_three(3): ValueError: three"
    assert repr(batch) == "<Batch: 5 of 6 succeeded, 1 failed>"
    batch.raise_if_failed(at_least=0.8)
    with pytest.raises(BatchFailed, match=r"83\.3%"):
        batch.raise_if_failed(at_least=0.95)


def test_that_retry_failed_submits_just_the_failures_again():
    """As new tasks, with the same arguments and options."""
    run = InstantRun()
    client = ScalableClient(run)
    batch = client.collect(client.map(fail_for_three, range(6), retries=1))

    again = batch.retry_failed()

    assert [future.label for future in again] == ["fail_for_three(3)"]
    assert again[0].task_id not in {future.task_id for future in batch.futures}


def fail_when_negative(*numbers: int) -> int:
    if sum(numbers) < 0 and not ALLOWED:
        raise ValueError("negative")
    return sum(numbers)


ALLOWED: list[bool] = []


def test_that_a_retry_of_a_dependent_depends_on_the_retry_of_its_ancestor():
    """In whatever order they were collected, and also when the ancestor was not; what succeeded stays as it is."""
    run = InstantRun()
    client = ScalableClient(run)
    good, bad = client.submit(fail_when_negative, 5), client.submit(fail_when_negative, -9)
    child = client.submit(fail_when_negative, bad, good)
    grandchild = client.submit(fail_when_negative, child)
    for future in (child, grandchild):
        assert future.has_failed
    ALLOWED.append(True)
    submitted = len(run.specs)
    try:
        again = client.collect([grandchild, bad]).retry_failed()
    finally:
        ALLOWED.clear()

    assert [future.result() for future in again] == [-4, -9]
    assert len(run.specs) - submitted == 3


def test_that_a_summary_names_what_fell_with_an_ancestor_once():
    """Not a line for each of a thousand descendants; and no more than twenty kinds."""
    client = ScalableClient(InstantRun(hold=True))
    futures = client.map(int, range(50))
    for number, future in enumerate(futures[:25]):
        future.set_exception(AncestorFailed(f"'f-{number}' was not run").because_of(ValueError("no such site")))
    for number, future in enumerate(futures[25:]):
        future.set_exception(KeyError(number))
    lines = client.collect(futures).summary().splitlines()

    assert lines[1] == "  int(0), int(1), int(2) and 22 more: AncestorFailed because of ValueError: no such site"
    assert len(lines) == 22
    assert lines[-1] == "  and 6 more kinds of failure"


@pytest.mark.parametrize("share", [95, -0.1])
def test_that_a_share_is_from_0_to_1(share):
    """95 for 95 % would never be reached."""
    client = ScalableClient(InstantRun())

    with pytest.raises(ValueError, match="share from 0 to 1"):
        client.collect(client.map(int, range(3))).raise_if_failed(at_least=share)


def test_that_what_was_cancelled_is_neither_ok_nor_failed():
    """It is not submitted again, and gather says so in each of its ways."""
    client = ScalableClient(InstantRun(hold=True))
    done, cancelled = client.submit(int, 1), client.submit(int, 2)
    done.set_result(1)
    cancelled.cancel()
    batch = client.collect([done, cancelled])

    assert (batch.ok, batch.failed, batch.cancelled) == ((done,), (), (cancelled,))
    assert batch.retry_failed() == []
    assert batch.summary() == "1 of 2 succeeded, 1 cancelled"
    assert client.gather([done, cancelled], errors="skip") == [1]
    assert isinstance(client.gather([done, cancelled], errors="return")[1], concurrent.futures.CancelledError)
    with pytest.raises(concurrent.futures.CancelledError):
        client.gather([done, cancelled])
    with pytest.raises(BatchFailed, match="50"):
        batch.raise_if_failed(at_least=0.95)


@pytest.mark.parametrize(("errors", "expected"), [("skip", [0, 2]), ("return", None)])
def test_that_gather_can_skip_or_return_errors(errors, expected):
    """``skip`` leaves them out, ``return`` puts them in place."""
    client = ScalableClient(InstantRun())
    futures = client.map(fail_for_three, [0, 3, 2])

    got = client.gather(futures, errors=errors)

    if expected is None:
        assert isinstance(got[1], ValueError)
        assert [got[0], got[2]] == [0, 2]
    else:
        assert got == expected


def test_that_gather_raises_the_tasks_own_exception():
    """Not a wrapper of it."""
    client = ScalableClient(InstantRun())

    with pytest.raises(ValueError, match="three"):
        client.gather({"a": client.submit(fail_for_three, 3)})


def test_that_the_standard_library_can_wait_for_our_futures():
    """``wait``, ``as_completed`` and ``asyncio.wrap_future`` take them."""
    client = ScalableClient(InstantRun())
    futures = client.map(fail_for_three, range(3))

    assert len(concurrent.futures.wait(futures).done) == 3
    assert {future.result() for future in concurrent.futures.as_completed(futures)} == {0, 1, 2}
    assert {future.result() for future in client.as_completed(futures, timeout=1)} == {0, 1, 2}

    async def wait_for_one() -> int:
        return await asyncio.wrap_future(futures[2])

    assert asyncio.run(wait_for_one()) == 2


def test_that_cancel_stops_a_call_that_runs():
    """The run is told, the future says cancelled, and a second cancel is False."""
    run = InstantRun(hold=True)
    client = ScalableClient(run)
    futures = client.map(fail_for_three, range(2))

    assert client.cancel(futures[0]) == 1
    assert futures[0].cancel() is True  # as concurrent.futures: cancelled already
    assert run.cancelled[0] == futures[0].task_id
    assert client.collect([futures[0]]).cancelled == (futures[0],)


def test_that_a_known_call_is_answered_without_being_run():
    """Its future is done at once and the hit is counted."""
    run = InstantRun(hold=True)
    run.known_values["mine"] = 42
    client = ScalableClient(run)

    future = client.submit(int, 7, key="mine")

    assert future.result(timeout=0) == 42
    assert run.hits == {"int": 1}
    assert run.held == []


def test_that_after_close_nothing_is_accepted():
    """An error that says what to do."""
    run = InstantRun()
    client = ScalableClient(run)
    client.close()

    with pytest.raises(RuntimeError, match="start a new session"):
        client.submit(int)
    assert run.closed


def test_that_unpicklable_arguments_are_named():
    """The call is named, and the reason given."""
    client = ScalableClient(InstantRun())

    with pytest.raises(TypeError, match=r"the arguments of id\(.*cannot be sent"):
        client.submit(id, (n for n in range(3)))


def test_that_a_policy_can_be_given_whole():
    """RetryPolicy passes through."""
    run = InstantRun()
    ScalableClient(run).submit(int, retry=RetryPolicy(retries=2))

    assert len(run.specs) == 1


def test_that_a_map_looks_once_for_all_that_may_be_known():
    """However many calls there are, the store is asked one time, and the calls are counted for whoever watches."""
    run = InstantRun()
    run.known_values = {f"k{number}": number for number in range(0, 1000, 2)}
    client = ScalableClient(run)

    futures = client.map(abs, range(1000), key=[f"k{number}" for number in range(1000)])

    assert client.gather(futures) == list(range(1000))
    assert (run.looks, run.watched_counts, run.hits) == (1, [1000], {"abs": 500})


@pytest.mark.parametrize("was_on", [True, False])
def test_that_a_map_leaves_the_collector_of_cycles_as_it_was(was_on):
    """On or off, and when a call is refused too."""
    client = ScalableClient(InstantRun())
    before = gc.isenabled()
    try:
        (gc.enable if was_on else gc.disable)()
        client.map(abs, [1, 2])
        after = gc.isenabled()
        with pytest.raises(TypeError):
            client.map(abs, [(number for number in [1])])
        afterwards = gc.isenabled()
    finally:
        (gc.enable if before else gc.disable)()

    assert (after, afterwards) == (was_on, was_on)
