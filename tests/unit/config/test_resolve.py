from __future__ import annotations

import json

import pytest

from scalable_hpc.backends import backend_for_orphans, batch_system
from scalable_hpc.batch.slurm import SlurmBackend
from scalable_hpc.config.limits import allocation_limits
from scalable_hpc.config.resolve import usable_cpus
from scalable_hpc.errors import ManifestError
from scalable_hpc.model.retry import Verdict
from scalable_hpc.planning import make_plan
from scalable_hpc.runs import RunDirectory
from tests.manifest_files import LOCAL

SLURM = LOCAL.replace("local", "slurm")
PBS = LOCAL.replace("local", "pbs")
COMPONENTS = """
    components:
      small: {cpus: 2, memory: 1G}
      big: {cpus: 6, memory: 8G, gpus: 1, slots: 3}
"""


def warned(found):
    return {issue.path: issue.message for issue in found.warnings}


@pytest.mark.parametrize(
    ("key", "value", "provider"),
    [
        ("comm_port", "1919", "slurm"),
        ("logs_location", "logs", "slurm"),
        ("suppress_logs", "true", "slurm"),
        ("name", "mine", "slurm"),
        ("threads_per_worker", "2", "local"),
        ("processes", "false", "local"),
        ("dashboard_address", "':8787'", "local"),
        ("partition", "batch", "local"),
        ("extra_directives", "[--x=y]", "local"),
        ("max_workers", "4", "slurm"),
        ("capacity", "{cpus: 4}", "slurm"),
        ("queue_wait", "5", "slurm"),
        ("qos", "high", "pbs"),
        ("gres", "gpu:1", "pbs"),
        ("signal_lead", "60", "pbs"),
        ("select_extras", "[model=ice]", "slurm"),
        ("place", "excl", "local"),
    ],
)
def test_that_a_key_without_effect_is_taken_with_a_word_about_it(desk, key, value, provider):
    """Manifests of Scalable load; nothing is dropped in silence."""
    found = desk.load(LOCAL.replace("local", provider) + f"        {key}: {value}\n" + COMPONENTS)

    assert "has no effect here" in warned(found)[f"targets.here.{key}"]


def test_that_what_has_no_effect_elsewhere_is_told_too(desk):
    """Storage, outputs, container settings without an image, a Python preload script."""
    found = desk.load(
        LOCAL.replace("{name: ensemble}", "{name: ensemble, default_storage: s3://x}")
        + """
    components:
      work: {cpus: 1, tags: [iam], runtime: apptainer, mounts: {/a: /b}, preload_script: warm.py}
      boxed: {cpus: 1, image: x.sif, runtime: docker}
    tasks:
      run: {component: work, outputs: {db: dir}}
"""
    )

    assert set(warned(found)) == {
        "project.default_storage",
        "components.work.tags",
        "components.work.runtime",
        "components.work.mounts",
        "components.work.preload_script",
        "components.boxed.image",
        "tasks.run.outputs",
    }
    assert found.worker_types["work"].preload_script is None
    assert found.worker_types["boxed"].image is None


def test_that_a_component_with_an_image_runs_in_it_on_a_cluster(desk):
    """Paths are made absolute, the runtime has a default, mounts may start at home."""
    found = desk.load(
        SLURM
        + """
    components:
      boxed: {image: images/x.sif, mounts: {~/data: /data}, preload_script: warm.sh}
      remote: {image: docker://ghcr.io/x/y:1, runtime: singularity}
"""
    )
    boxed, remote = found.worker_types["boxed"], found.worker_types["remote"]

    assert boxed.image == str(desk.base / "images/x.sif")
    assert boxed.runtime == "apptainer"
    assert boxed.mounts == ((f"{desk.environ['HOME']}/data", "/data"),)
    assert boxed.preload_script == str(desk.base / "warm.sh")
    assert (remote.image, remote.runtime) == ("docker://ghcr.io/x/y:1", "singularity")


@pytest.mark.parametrize("where", ["runtime: docker", None])
def test_that_a_container_runtime_we_cannot_use_is_refused_with_those_we_can(desk, where):
    """Said of the component or of the target."""
    own = f", {where}" if where else ""
    targets = SLURM + ("" if where else "        container_runtime: docker\n")
    with pytest.raises(ManifestError, match="is 'docker': allowed is apptainer, singularity"):
        desk.load(targets + f"    components: {{a: {{image: x.sif{own}}}}}\n")


@pytest.mark.parametrize("runtime", ["podman-hpc", "shifter"])
def test_that_a_runtime_that_knows_images_by_name_is_given_no_file(desk, runtime):
    """It would take the path for a name."""
    with pytest.raises(ManifestError, match=f"is a file; {runtime} takes the name of an image"):
        desk.load(SLURM + f"    components: {{a: {{image: images/x.sif, runtime: {runtime}}}}}\n")


@pytest.mark.parametrize("setting", ["image: --x", "image: -B/etc"])
def test_that_no_image_is_an_option(desk, setting):
    """Of the container runtime."""
    with pytest.raises(ManifestError, match="starts with a dash"):
        desk.load(SLURM + f"    components: {{a: {{{setting}}}}}\n")


def test_that_local_uses_images_only_when_told(desk):
    """``containers: auto`` in the target."""
    text = LOCAL + "        containers: auto\n    components: {a: {image: x.sif}}\n"

    assert desk.load(text).worker_types["a"].runtime == "apptainer"
    assert desk.load(text).target.use_containers


def test_that_local_capacity_bounds_the_default_number_of_allocations(desk):
    """As many of each worker type as fit."""
    found = desk.load(LOCAL + "        capacity: {cpus: 12, memory: 16G}\n" + COMPONENTS)

    assert found.target.capacity_memory == 16 * 2**30
    assert found.target.allocations_max == {"small": 6, "big": 2}


def test_that_a_small_machine_is_stretched_to_the_largest_worker_type(desk):
    """Every manifest runs on a laptop; that cpus are shared is said."""
    many = usable_cpus() + 1
    found = desk.load(LOCAL + f"    components: {{big: {{cpus: {many}}}}}\n")

    assert found.target.capacity_cpus == many
    assert "they are shared" in warned(found)["components.big.cpus"]
    assert found.sources["target.capacity.cpus"] == "this machine"


def test_that_a_worker_type_over_a_stated_capacity_is_told(desk):
    """It could only wait for ever."""
    found = desk.load(LOCAL + "        capacity: {cpus: 6, memory: 4G}\n" + COMPONENTS)

    assert list(warned(found)) == ["components.big"]


def test_that_a_cluster_without_components_gets_the_smallest_worker_and_says_so(desk):
    """One cpu, one slot."""
    found = desk.load(SLURM)

    assert (found.worker_types["default"].cpus, found.worker_types["default"].slots) == (1, 1)
    assert list(warned(found)) == ["components"]


def test_that_times_at_the_end_are_cut_to_a_short_walltime(desk):
    """Unless the manifest itself asks for them."""
    short = desk.load(SLURM + "        walltime: 12s\n").target
    asked = desk.load(SLURM + "        walltime: 12s\n        margin: 6\n        lead: 8s\n").target

    assert (short.margin_s, short.lead_s) == (3, 4)
    assert (asked.margin_s, asked.lead_s) == (6, 8)


@pytest.mark.parametrize("key", ["margin", "lead", "signal_lead"])
def test_that_a_time_longer_than_the_walltime_is_refused_where_it_was_written(desk, key):
    """Nothing could ever be placed."""
    with pytest.raises(ManifestError, match=rf"scalable\.yaml:7: {key} is 90 s, not less than the walltime, 00:01:00"):
        desk.load(SLURM + f"        walltime: 1m\n        {key}: 90s\n" + COMPONENTS)


def test_that_no_signal_is_sent_unless_asked_for(desk):
    """Workers know their deadline; a site's wish is dropped where the walltime is too short for it."""
    desk.write("signal_lead: 2m", "site-configs/slurm-generic.yaml")

    assert desk.load(LOCAL).target.signal_lead_s is None
    assert desk.load(SLURM).target.signal_lead_s == 120
    assert desk.load(SLURM + "        signal_lead: 0\n").target.signal_lead_s is None
    assert desk.load(SLURM + "        walltime: 1m\n").target.signal_lead_s is None


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("extra_directives: ['-N mine']", "which is ours: it carries the run's id"),
        ("extra_directives: ['-l walltime=1']", "which is ours: set walltime"),
        ("extra_directives: ['--mail-type=END']", "is not an option of qsub"),
        ("extra_directives: ['-W block=true']", "must answer at once"),
        ("commands: {sbatch: x}", "'sbatch' is no command of pbs (qsub, qstat, qselect, qdel)"),
        ("place: everywhere", "is not a placement such as 'scatter'"),
        ("select_extras: ['mem=2gb']", "which is ours: set the component's memory"),
        ("select_extras: ['a=b+1:ncpus=2']", "would begin another resource or chunk"),
        ("select_extras: [fast]", "is not a resource such as"),
        ("resources: ['select=2']", "which is ours"),
        ("resources: ['a=$(x)']", "cannot carry"),
        ("queue: 'a b'", "partition is 'a b'"),
    ],
)
def test_that_what_qsub_would_not_take_is_refused(desk, more, words):
    """By PBS's own rules, with the key to set instead."""
    with pytest.raises(ManifestError) as caught:
        desk.load(LOCAL.replace("local", "pbs") + f"        {more}\n" + COMPONENTS)

    assert words in str(caught.value)
    assert "scalable.yaml:6" in str(caught.value)


def test_that_pbs_settings_arrive_as_they_were_written(desk):
    """Queue, account, project, placement, extras of the node and of the job."""
    target = desk.load(
        LOCAL.replace("local", "pbs")
        + """        queue: prod
        account: "0042"
        project: climate
        place: scatter:excl
        select_extras: [model=ice, "ngpus=4"]
        resources: ["filesystems=home:eagle"]
        extra_directives: ["#PBS -m abe", "-W umask=022"]
        commands: {qsub: /opt/pbs/bin/qsub -f}
"""
        + COMPONENTS
    ).target

    assert (target.partition, target.account, target.project) == ("prod", "0042", "climate")
    assert (target.place, target.select_extras) == ("scatter:excl", ("model=ice", "ngpus=4"))
    assert target.resources == ("filesystems=home:eagle",)
    assert target.extra_directives == ("-m abe", "-W umask=022")
    assert target.commands == {"qsub": ("/opt/pbs/bin/qsub", "-f")}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("allocations: {min: 3, max: 2}", "allocations.min is 3, more than allocations.max, 2"),
        ("templates: [nowhere]", "there is no directory"),
        ("extra_directives: ['--time=1:00']", "which is ours: set walltime"),
        ("partition: 'a b'", "partition is 'a b'"),
        ("account: --exclusive", "starts with a dash"),
        ("setup: {a: b}", "setup is 'a mapping': must be a list"),
        ("python: 'a \"b'", "cannot be split"),
        ("scheduler_port: 70000", "at most 65535"),
        ('env: {A: "x\\ny"}', "line break"),
        ("modules: [--force]", "is not a module name"),
        ("commands: {qsub: x}", "'qsub' is no command of slurm"),
        ("commands: {bqsub: x}", "unknown key 'bqsub'"),
        ("exclusive: maybe", "true or false"),
        ("allocations: {max: yes}", "max is 'yes': must be a whole number"),
        ("margin: -5", "zero seconds or more"),
    ],
)
def test_that_settings_that_cannot_be_are_refused(desk, more, words):
    """Before anything is rendered or submitted."""
    with pytest.raises(ManifestError) as caught:
        desk.load(SLURM + f"        {more}\n" + COMPONENTS)

    assert words in str(caught.value)
    assert "scalable.yaml:6" in str(caught.value)


def test_that_a_local_allocation_is_one_node(desk):
    """This machine has no other."""
    with pytest.raises(ManifestError, match="this machine is one node"):
        desk.load(LOCAL + "        allocations: {nodes: 2}\n")


def test_that_a_task_longer_than_the_walltime_is_told(desk):
    """Here a warning: another target may have the time."""
    found = desk.load(SLURM + COMPONENTS + "    tasks: {long: {expected_runtime: '02:00:00'}}\n")

    assert "can never finish there" in warned(found)["tasks.long.expected_runtime"]


def test_that_a_task_that_checkpoints_may_be_longer_than_the_walltime(desk):
    """It goes on in the next allocation, so there is nothing to warn of."""
    text = SLURM + COMPONENTS + "    tasks: {long: {expected_runtime: '02:00:00', checkpoints: yes}}\n"

    found = desk.load(text)

    assert found.tasks["long"].checkpoints is True
    assert "tasks.long.expected_runtime" not in warned(found)


def test_that_a_retry_policy_is_taken_field_by_field(desk):
    """What is not said is as in RetryPolicy."""
    text = "    tasks: {a: {retry: {retries: 2, base_s: 0.5, cap_s: 1m, jitter: no}}, b: {cache: false}}\n"
    tasks = desk.load(LOCAL + text).tasks

    assert (tasks["a"].policy.retries, tasks["a"].policy.base_s, tasks["a"].policy.cap_s) == (2, 0.5, 60)
    assert tasks["a"].policy.jitter is False
    assert (tasks["b"].policy, tasks["b"].cache, tasks["a"].cache) == (None, False, None)


def test_that_a_retry_policy_has_the_users_rules(desk):
    """Short spellings, names of exceptions one or many, limits by verdict, the rule by name."""
    text = """\
    tasks:
        a:
            retry:
                attempts: 4
                base: 1m
                max_elapsed: 2h
                transient: [requests.Timeout, KeyError]
                permanent: OSError
                limits: {RESOURCE: 3, infrastructure: 5}
                worth_retrying: rules.mine:is_temporary
"""
    policy = desk.load(LOCAL + text).tasks["a"].policy

    assert (policy.retries, policy.base_s, policy.max_elapsed_s) == (3, 60, 7200)
    assert policy.transient == ("requests.Timeout", "builtins.KeyError")
    assert policy.permanent == ("builtins.OSError",)
    assert (policy.limit_of(Verdict.RESOURCE), policy.limit_of(Verdict.INFRASTRUCTURE)) == (3, 5)
    assert policy.worth_retrying == "rules.mine:is_temporary"


def test_that_one_entry_holds_for_every_task_where_its_own_says_nothing(desk):
    """Key by key, those of the retry policy too; a count of its own replaces the common one, however it is spelled."""
    text = """\
    tasks:
        "*": {retries: 2, timeout: 5m, retry: {base: 7s}}
        a: {retry: {attempts: 1}}
        b: {timeout: 1m}
"""
    tasks = desk.load(LOCAL + text).tasks

    assert {name: (task.policy.retries, task.policy.base_s, task.timeout_s) for name, task in tasks.items()} == {
        "*": (2, 7, 300),
        "a": (0, 7, 300),
        "b": (2, 7, 60),
    }


def test_that_the_planner_gets_the_limits_of_each_worker_type(desk):
    """Allocations, nodes, slots, walltime and the times around its end."""
    text = SLURM + "        walltime: 02:00:00\n        allocations: {min: 1, max: 7, nodes: 2}\n        idle: 1m\n"
    limits = allocation_limits(desk.load(text + COMPONENTS))

    assert set(limits) == {"small", "big"}
    big = limits["big"]
    assert (big.worker_type, big.minimum, big.maximum, big.nodes, big.slots_per_node) == ("big", 1, 7, 2, 3)
    assert (big.walltime_s, big.margin_s, big.lead_s, big.idle_s) == (7200, 5, 120, 60)


def test_that_every_setting_of_the_answer_has_a_source(desk):
    """Also those that nobody set, and none of the other provider."""
    local, slurm = desk.load(LOCAL).sources, desk.load(SLURM).sources

    assert "target.kill_wait" in local
    assert "target.kill_wait" not in slurm
    assert "target.qos" not in local
    assert slurm["target.qos"] == "default"
    assert all(local.values())


@pytest.mark.parametrize("other", ["pure: false", "cache: true"])
def test_that_a_result_that_is_not_kept_cannot_be_one_that_must_be(desk, other):
    """Both are refused, with the line."""
    text = LOCAL + COMPONENTS + f"    tasks:\n      f: {{persist: false, {other}}}\n"

    with pytest.raises(ManifestError, match=r"scalable\.yaml:\d+: a result that is not kept") as raised:
        desk.load(text)
    assert other.partition(":")[0] in str(raised.value)


def test_that_words_of_slurm_reach_the_script_and_the_commands(desk):
    """Licences, one cluster of the site, jobs that may be run again, and several of them by one submission."""
    text = SLURM + "        licenses: matlab:2,scratch@db:1\n        clusters: big\n        requeue: true\n"
    found = desk.load(text + "        allocations: {max: 8, array: 3}\n" + COMPONENTS)
    script = make_plan(found).scripts["small"]
    commands = batch_system(found.target, None).commands

    asked = {line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")}
    assert asked >= {"--licenses=matlab:2,scratch@db:1", "--clusters=big", "--requeue", "--array=1-3"}
    assert "--no-requeue" not in asked
    assert commands.squeue_args == commands.scontrol_args == ("--clusters=big",)


def test_that_a_dead_runs_jobs_are_looked_for_on_its_own_cluster(desk, tmp_path, monkeypatch):
    """Whatever this target says: the plan of the run tells."""
    monkeypatch.setattr(SlurmBackend, "check", lambda _: None)
    run = RunDirectory(tmp_path)
    run.plan.write_text(json.dumps(make_plan(desk.load(SLURM + "        clusters: big\n" + COMPONENTS)).to_dict()))
    found = [
        backend_for_orphans(desk.load(text + COMPONENTS).target, "slurm", run).commands.scancel_args
        for text in (SLURM, SLURM + "        clusters: other\n", LOCAL)
    ]

    assert found == [("--clusters=big",)] * 3


@pytest.mark.parametrize(
    ("base", "setting", "words"),
    [
        (SLURM, "clusters: a,b", "is not one cluster"),
        (SLURM, "clusters: all", "is not one cluster"),
        (SLURM, "clusters: $$(x)", "cannot carry"),
        (SLURM, "licenses: a b", "cannot carry"),
        (SLURM, "allocations: {array: 0}", "array"),
        (SLURM, "extra_directives: [--licenses=a]", "set licenses"),
        (SLURM, "extra_directives: [--array=1-3]", "set allocations.array"),
        (LOCAL, "allocations: {array: 2}", "this machine has no limit on jobs"),
        (PBS, "allocations: {array: 2}", "PBS takes arrays only of jobs that it may run again"),
    ],
)
def test_that_what_slurm_or_another_provider_cannot_take_is_refused(desk, base, setting, words):
    """With the reason."""
    with pytest.raises(ManifestError, match=words):
        desk.load(base + f"        {setting}\n" + COMPONENTS)
