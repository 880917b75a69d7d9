"""From calls to tasks: names, keys and what the manifest adds."""

from __future__ import annotations

import pytest

from scalable_hpc.call import Options, make_call, pickle_function
from scalable_hpc.config.manifest import load_manifest
from scalable_hpc.errors import ManifestError
from scalable_hpc.model.tasks import RetryPolicy
from scalable_hpc.naming import Naming

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
