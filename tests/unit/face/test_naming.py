"""From calls to tasks: names, keys and what the manifest adds."""

from __future__ import annotations

import threading
import time

import pytest
from blake3 import blake3
from cloudpickle import loads

from scalable_hpc import cacheable
from scalable_hpc.call import Options, make_call, pickle_function
from scalable_hpc.config.manifest import load_manifest
from scalable_hpc.errors import ManifestError
from scalable_hpc.model.tasks import ResultRef, RetryPolicy
from scalable_hpc.naming import Naming, is_sampled

MANIFEST = """\
version: 1
project: {name: naming}
targets: {here: {provider: local, capacity: {cpus: 4}, allocations: {walltime: "01:00:00"}}}
components:
  small: {cpus: 1}
  large: {cpus: 4, memory: 4G}
tasks:
  add: {component: large, retries: 2, timeout: 90s, expected_runtime: 60s}
"""


def add(left: int, right: int = 0) -> int:
    return left + right


@pytest.fixture
def naming(tmp_path):
    (tmp_path / "scalable.yaml").write_text(MANIFEST)
    return Naming(load_manifest(tmp_path / "scalable.yaml"), "run", "store")


def call(*args, **options):
    return make_call(add, pickle_function(add), args, {}, Options(**options))


def test_that_the_manifest_speaks_for_a_task_of_the_functions_name(naming):
    """Component, policy, timeout and expected runtime hold without being named in the call."""
    spec = naming.specify(call(1))

    assert (spec.name, spec.needs.worker_type) == ("add", "large")
    assert (spec.policy.retries, spec.timeout_s, spec.expected_runtime_s) == (2, 90, 60)


def test_that_the_call_has_the_last_word(naming):
    """Every option of a call is stronger than the manifest's."""
    spec = naming.specify(call(1, retries=5, timeout=1.5, expected_runtime="2m", tag="small", cpus=1, memory="1G"))

    assert (spec.policy.retries, spec.timeout_s, spec.expected_runtime_s) == (5, 1.5, 120)
    assert (spec.needs.worker_type, spec.needs.cpus, spec.needs.memory) == ("small", 1, 2**30)


def test_that_a_call_that_checkpoints_says_so_to_the_run(naming):
    """And only that one."""
    assert [naming.specify(call(1, **options)).checkpoints for options in ({"checkpoints": True}, {})] == [True, False]


def test_that_the_manifest_may_say_that_a_task_checkpoints(tmp_path):
    """A call that says otherwise has the last word; ``*`` holds for functions that have no entry."""
    text = MANIFEST.replace("tasks:\n  add:", 'tasks:\n  "*": {checkpoints: true}\n  other:')
    (tmp_path / "scalable.yaml").write_text(text)
    naming = Naming(load_manifest(tmp_path / "scalable.yaml"), "run", "store")

    assert [naming.specify(call(1, **options)).checkpoints for options in ({"checkpoints": False}, {})] == [False, True]


def test_that_a_rule_is_pickled_once_and_kept_out_of_the_policy(naming):
    """The policy of the task is plain data; the calls of a map share one pickle."""
    policy = RetryPolicy(retries=1, worth_retrying=lambda error: bool(error.args))

    specs = [naming.specify(call(number, retry=policy)) for number in range(2)]

    assert specs[0].policy == RetryPolicy(retries=1)
    assert specs[0].rule is specs[1].rule
    assert loads(specs[0].rule.inline)(ValueError("x")) is True
    assert naming.specify(call(1)).rule is None


def test_that_a_rule_that_cannot_travel_is_refused_at_once(naming):
    """Where it is submitted, not where it would be asked."""
    lock = threading.Lock()
    policy = RetryPolicy(worth_retrying=lambda _: lock.locked())

    with pytest.raises(TypeError, match="worth_retrying"):
        naming.specify(call(1, retry=policy))


def test_that_a_whole_policy_and_a_number_of_retries_combine(naming):
    """``retries`` is put into the policy that was given."""
    spec = naming.specify(call(1, retry=RetryPolicy(retries=9, base_s=7), retries=1))

    assert spec.policy == RetryPolicy(retries=1, base_s=7)


def test_that_equal_calls_are_tasks_of_their_own_unless_named_alike(naming):
    """Names and keys differ; calls with the same ``key`` share one key and keep names of their own."""
    plain = [naming.specify(call(1)) for _ in range(2)]
    named = [naming.specify(call(1, key="mine")) for _ in range(2)]

    assert plain[0].key != plain[1].key
    assert named[0].key == named[1].key
    assert len({spec.task_id for spec in [*plain, *named]}) == 4


def test_that_an_unknown_component_is_refused_with_those_there_are(naming):
    """Before anything is journalled."""
    with pytest.raises(ManifestError, match=r"'huge'; there is 'large', 'small'"):
        naming.specify(call(1, tag="huge"))


def drawn(naming, *args, **options):
    made = make_call(add, pickle_function(add), args, {}, Options(**options), pure=options.get("pure", True))
    return naming.specify(made)


def test_that_equal_calls_are_tasks_of_their_own_that_a_second_driver_meets_again(naming, tmp_path):
    """Their keys follow from function, arguments and order among equals, whatever else was submitted between."""
    again = Naming(load_manifest(tmp_path / "scalable.yaml"), "run", "store", first_number=100)
    other_run = Naming(load_manifest(tmp_path / "scalable.yaml"), "other run", "store")
    first = [drawn(naming, number, pure=False).key for number in (1, 1, 2, 1)]
    second = [drawn(again, number, pure=False).key for number in (2, 1, 1, 1)]

    assert len(set(first)) == 4
    assert second == [first[2], first[0], first[1], first[3]]
    assert not set(first) & {drawn(other_run, 1, pure=False).key}


def test_that_a_second_driver_uses_no_name_of_the_first_ones(tmp_path, naming):
    """The journal of a run knows each task by its name."""
    again = Naming(load_manifest(tmp_path / "scalable.yaml"), "run", "store", first_number=100)

    assert [naming.specify(call(1)).task_id, again.specify(call(1)).task_id] == ["add-00001", "add-00100"]


def test_that_a_dependent_has_the_same_key_whatever_number_its_ancestor_has(naming, tmp_path):
    """The bytes of its arguments name the ancestor by key alone."""
    again = Naming(load_manifest(tmp_path / "scalable.yaml"), "run", "store", first_number=100)
    keys = set()
    for names in (naming, again):
        above = drawn(names, 1)
        ref = ResultRef(above.task_id, above.key)
        made = make_call(add, pickle_function(add), (ref,), {}, Options())
        made.ancestors = (ref,)
        keys.add(names.specify(made).key)

    assert len(keys) == 1


def test_that_an_impure_call_is_not_cached_whatever_else_is_said():
    """Neither the decorator nor the manifest makes it so."""

    @cacheable
    def now(number: int) -> float:
        return number + time.time()

    for fn in (now, add):
        assert make_call(fn, pickle_function(fn), (1,), {}, Options(), cache=True).cache_key is not None
        made = make_call(fn, pickle_function(fn), (1,), {}, Options(pure=False), cache=True, pure=False)
        assert made.cache_key is None


def test_that_the_manifest_says_which_functions_are_not_pure(tmp_path):
    """And the call has the last word."""
    text = MANIFEST.replace("retries: 2,", "pure: false,")
    (tmp_path / "scalable.yaml").write_text(text)
    naming = Naming(load_manifest(tmp_path / "scalable.yaml"), "run", "store")

    assert not naming.is_pure("add")
    assert [drawn(naming, 1, **said).pure for said in ({}, {"pure": True})] == [False, True]


def test_that_the_manifest_says_whose_results_are_not_kept(tmp_path):
    """Every entry for itself; what is not said is kept."""
    text = MANIFEST.replace("retries: 2,", "persist: false,")
    (tmp_path / "scalable.yaml").write_text(text)
    naming = Naming(load_manifest(tmp_path / "scalable.yaml"), "run", "store")

    assert (naming.persists("add"), naming.persists("other")) == (False, True)


def test_that_the_same_calls_are_verified_in_every_run():
    """The key decides; the share is what was asked for, give or take."""
    keys = [blake3(str(number).encode()).hexdigest() for number in range(2000)]
    chosen = [key for key in keys if is_sampled(key, 0.05)]

    assert 60 < len(chosen) < 140
    assert chosen == [key for key in keys if is_sampled(key, 0.05)]
    assert [is_sampled(key, 1.0) for key in keys[:50]] == [True] * 50
    assert not any(is_sampled(key, 0.0) for key in keys)
