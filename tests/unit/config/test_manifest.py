from __future__ import annotations

from pathlib import Path

import pytest

from scalable_hpc.config.manifest import load_manifest, validate_manifest
from scalable_hpc.errors import ManifestError, SiteError, UnknownTargetError, WalltimeError
from tests.manifest_files import LOCAL

EXAMPLES = Path(__file__).parents[3] / "examples"

FULL = """
    version: 1
    project: {name: ensemble, local_cache: results}
    targets:
      laptop:
        provider: local
        max_workers: 4
      hpc:
        provider: slurm
        overlay: big
        queue: standard
        account: 0123
        walltime: "02:00:00"
        allocations: {min: 1, max: 5}
    components:
      gcam:
        cpus: 2
        memory: 8G
        slots: 1
        env: {OMP_NUM_THREADS: 2, FLAG: yes}
        gpus: 0
    tasks:
      run:
        component: gcam
        retries: 3
        timeout: 90m
        expected_runtime: 600
    overlays:
      big:
        components:
          gcam: {cpus: 16, memory: 64G}
"""


def issues(report):
    return [(issue.code, issue.path, issue.line) for issue in report.errors]


def test_that_a_manifest_becomes_one_frozen_answer(desk):
    """Text has become seconds and bytes, names have become worker types and task defaults."""
    found = desk.load(FULL, "laptop")

    assert found.project_name == "ensemble"
    assert found.cache_root == desk.base / "results"
    assert found.runs_root == desk.base / ".scalable" / "runs"
    assert found.target.provider == "local"
    assert found.target.capacity_cpus == 4
    assert found.worker_types["gcam"].memory == 8 * 2**30
    assert found.worker_types["gcam"].slots == 1
    assert found.worker_types["gcam"].env == (("OMP_NUM_THREADS", "2"), ("FLAG", "yes"))
    assert found.tasks["run"].needs.worker_type == "gcam"
    assert found.tasks["run"].policy.retries == 3
    assert found.tasks["run"].timeout_s == 5400
    assert found.tasks["run"].expected_runtime_s == 600


def test_that_a_target_is_laid_over_its_overlay_and_no_other(desk):
    """The overlay of one target changes nothing for the others."""
    assert desk.load(FULL, "hpc").worker_types["gcam"].cpus == 16
    assert desk.load(FULL, "hpc").worker_types["gcam"].slots == 1
    assert desk.load(FULL, "laptop").worker_types["gcam"].cpus == 2


def test_that_slurm_settings_arrive_as_they_were_written(desk):
    """``queue`` is the partition, an account keeps its leading zero."""
    target = desk.load(FULL, "hpc").target

    assert (target.partition, target.account, target.walltime_s) == ("standard", "0123", 7200)
    assert (target.allocations_min, target.allocations_max) == (1, {"gcam": 5})


def test_that_every_value_knows_who_set_it(desk):
    """File and line, with the overlay's own line, or the layer below, or ``default``."""
    sources = desk.load(FULL, "hpc").sources

    assert sources["target.partition"] == "scalable.yaml:10"
    assert sources["target.allocations.walltime"] == "scalable.yaml:12"
    assert sources["components.gcam.cpus"] == "scalable.yaml:30"
    assert sources["components.gcam.slots"] == "scalable.yaml:18"
    assert sources["target.poll"].startswith("built-in site-configs/slurm-generic.yaml:")
    assert sources["target.lead"].startswith("built-in site-configs/defaults.yaml:")
    assert sources["target.qos"] == "default"
    assert sources["cache_root"] == "scalable.yaml:2"
    assert sources["runs_root"] == "default"


@pytest.mark.parametrize(
    ("wrong", "right", "path", "nearest"),
    [
        ("componets:", "components:", "componets", "'components'"),
        ("naem: ensemble", "name: ensemble", "project.naem", "'name'"),
        ("max_worker:", "max_workers:", "targets.laptop.max_worker", "'max_workers'"),
        ("cpu: 2", "cpus: 2", "components.gcam.cpu", "'cpus'"),
        ("retires: 3", "retries: 3", "tasks.run.retires", "'retries'"),
    ],
)
def test_that_an_unknown_key_is_told_with_line_and_nearest_name(desk, wrong, right, path, nearest):
    """Whatever section it is in."""
    text = FULL.replace(right, wrong, 1)
    line = next(number for number, line in enumerate(text.lstrip("\n").splitlines(), 1) if wrong in line)
    with pytest.raises(ManifestError) as caught:
        desk.load(text, "laptop")

    assert f"scalable.yaml:{line}: unknown key '{path.rpartition('.')[2]}'" in str(caught.value)
    assert nearest in str(caught.value)
    assert ("E_UNKNOWN_KEY", path) in [(issue.code, issue.path) for issue in desk.validate(text).errors]


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("provider: local", "provider: slrum", ["provider is 'slrum'", "local, pbs, slurm", "did you mean 'slurm'"]),
        ("provider: local", "provider: kubernetes", ["provider is 'kubernetes'", "local, pbs, slurm"]),
        ("version: 1", "version: 2", ["version is '2'", "allowed is 1"]),
        ("cpus: 2", "cpus: two", ["cpus is 'two'", "whole number"]),
        ("cpus: 2", "cpus: 0", ["cpus is '0'", "at least 1"]),
        ("cpus: 2", "cpus: [2]", ["cpus is 'a list'", "whole number"]),
        ("memory: 8G", "memory: 8", ["memory is '8'", "'8G'"]),
        ("memory: 8G", "memory: lots", ["memory is 'lots'", "'8G'"]),
        ("retries: 3", "retries: -1", ["retries is '-1'", "at least 0"]),
        ("timeout: 90m", "timeout: soon", ["timeout is 'soon'", "'90s'"]),
        ("timeout: 90m", "timeout: 0", ["timeout is '0'", "more than zero"]),
        ("FLAG: yes", "'A B': yes", ["'A B'", "not a variable name"]),
        ("component: gcam", "component: gcm", ["component is 'gcm'", "did you mean 'gcam'"]),
        ("gpus: 0", "mounts: {data: /data}", ["'data' in components.gcam.mounts", "absolute"]),
        ("gpus: 0", "mounts: {/data: data}", ["'data' in components.gcam.mounts", "absolute"]),
        ("gpus: 0", "tags: iam", ["tags is 'iam'", "must be a list"]),
        ("max_workers: 4", "site: nowhere", ["no site config 'nowhere'", "slurm-generic"]),
        ("max_workers: 4", "overlay: bog", ["overlay is 'bog'", "did you mean 'big'"]),
        ("retries: 3", "retries: 3\n        retry: {retries: 2}", ["retries is 3", "retry.retries 2"]),
        ("retries: 3", "retry: {attempts: 3, retries: 3}", ["attempts is 3", "retry.retries 3"]),
        ("retries: 3", "retry: {transient: Flooded}", ["'Flooded'", "package.module.Flooded"]),
        ("retries: 3", "retry: {transient: OSError, permanent: [OSError]}", ["both transient and permanent"]),
        ("retries: 3", "retry: {limits: {KILLER: 2}}", ["KILLER", "INFRASTRUCTURE, RESOURCE"]),
        ("retries: 3", "retry: {worth_retrying: mine.rule}", ["'mine.rule'", "package.module:function"]),
        ("retries: 3", "cpus: 99", ["fits no component", "99 cpus"]),
    ],
)
def test_that_a_wrong_value_is_told_with_what_is_allowed(desk, right, wrong, words):
    """Name, value in quotes, and what may stand there."""
    with pytest.raises((ManifestError, SiteError)) as caught:
        desk.load(FULL.replace(right, wrong, 1), "laptop")

    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("12:00:00", ["walltime is 12:00:00 without quotes", "43200", 'walltime: "12:00:00"', "scalable.yaml:12"]),
        ("1:30", ["without quotes", "90", 'walltime: "1:30"']),
        ("3600", ["the number 3600", 'walltime: "01:00:00"', "seconds"]),
        ('"soon"', ["walltime is 'soon'", "'HH:MM:SS'", "scalable.yaml:12"]),
        ('"10:99:00"', ["walltime is '10:99:00'"]),
        ('"0:0:0"', ["walltime is '0:0:0'"]),
        ("[1]", ["walltime is 'a list'"]),
    ],
)
def test_that_a_walltime_that_is_no_text_or_no_time_is_explained(desk, written, words):
    """What YAML made of it and the line to write; an error class, and so an exit code, of its own."""
    with pytest.raises(WalltimeError) as caught:
        desk.load(FULL.replace('walltime: "02:00:00"', f"walltime: {written}"), "hpc")

    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)
    assert caught.value.exit_code == 11


def test_that_an_unquoted_base_60_duration_is_explained_too(desk):
    """``timeout: 10:00`` would be ten minutes to a person and 600 to YAML."""
    with pytest.raises(WalltimeError, match='timeout: "10:00"'):
        desk.load(FULL.replace("timeout: 90m", "timeout: 10:00"), "laptop")


def test_that_all_problems_are_told_at_once_in_the_order_of_the_file(desk):
    """The first one is raised and carries the others."""
    text = FULL.replace("cpus: 2", "cpu: 2").replace("retries: 3", "retries: x").replace("memory: 8G", "memory: 8")
    with pytest.raises(ManifestError) as caught:
        desk.load(text, "laptop")

    assert issues(desk.validate(text)) == [
        ("E_UNKNOWN_KEY", "components.gcam.cpu", 16),
        ("E_BAD_MEMORY", "components.gcam.memory", 17),
        ("E_BAD_VALUE", "tasks.run.retries", 24),
    ]
    assert str(caught.value).startswith("scalable.yaml:16: ")
    assert "2 more:" in str(caught.value)
    assert "scalable.yaml:24: " in str(caught.value)


def test_that_another_targets_mistake_is_a_warning_here(desk):
    """A manifest with a target that cannot be read still runs on the others."""
    text = FULL.replace("queue: standard", "queeue: standard").replace("account: 0123", "account: ${NOT_SET}")
    found = desk.load(text, "laptop")

    assert [(issue.code, issue.path) for issue in found.warnings] == [
        ("W_OTHER_TARGET", "targets.hpc.queeue"),
        ("W_OTHER_TARGET", "targets.hpc.account"),
    ]
    assert {code for code, *_ in issues(desk.validate(text))} == {"E_UNKNOWN_KEY", "E_MISSING_VARIABLE"}
    with pytest.raises(ManifestError, match="'queeue'"):
        desk.load(text, "hpc")


def test_that_of_a_foreign_provider_only_the_provider_is_told(desk):
    """Its other keys belong to a schema that we do not have."""
    text = FULL.replace("provider: slurm", "provider: aws\n        region: us-east-1")

    assert issues(desk.validate(text)) == [("E_UNKNOWN_PROVIDER", "targets.hpc.provider", 8)]


def test_that_an_overlay_nobody_names_is_checked_too(desk):
    """A report is about the whole file."""
    text = FULL.replace("overlay: big", "exclusive: true").replace("cpus: 16", "cpuz: 16")

    assert issues(desk.validate(text)) == [("E_UNKNOWN_KEY", "components.gcam.cpuz", 30)]


def test_that_a_good_manifest_has_no_findings(desk):
    """Neither errors nor warnings."""
    report = desk.validate(FULL)

    assert report.ok
    assert report.warnings == ()


@pytest.mark.parametrize(
    ("asked", "words"),
    [("laptp", ["'laptp'", "did you mean 'laptop'", "laptop, hpc"]), (None, ["none was chosen", "laptop, hpc"])],
)
def test_that_an_unknown_target_is_told_with_those_there_are(desk, asked, words):
    """With the nearest name, and an error class of its own."""
    with pytest.raises(UnknownTargetError) as caught:
        desk.load(FULL, asked)

    assert [word for word in words if word not in str(caught.value)] == []
    assert caught.value.exit_code == 12


def test_that_the_target_is_chosen_by_argument_then_environment_then_being_the_only_one(desk):
    """Our own variable wins over Scalable's."""
    desk.environ |= {"SCALABLE_TARGET": "hpc"}
    assert desk.load(FULL).target.name == "hpc"
    desk.environ |= {"SCALABLE_HPC_TARGET": "laptop"}
    assert desk.load(FULL).target.name == "laptop"
    assert desk.load(FULL, "hpc").target.name == "hpc"
    desk.environ.clear()
    assert desk.load(LOCAL).target.name == "here"
    assert desk.load(FULL.replace("laptop:", "local:"), "auto").target.name == "local"


def test_that_a_manifest_without_targets_runs_on_this_machine(desk):
    """One worker type as large as the machine, said as a warning by the report."""
    found = desk.load("version: 1\n")

    assert (found.target.name, found.target.provider) == ("local", "local")
    assert found.worker_types["default"].cpus == found.target.capacity_cpus >= 1
    assert found.worker_types["default"].slots == found.target.capacity_cpus
    assert found.target.allocations_max == {"default": 1}
    assert [issue.code for issue in desk.validate("version: 1\n").warnings] == ["W_NO_TARGETS"]


def test_that_variables_are_expanded_and_missing_ones_told(desk):
    """With the line, and what to type."""
    desk.environ["MY_CACHE"] = "/scratch/cache"
    text = LOCAL.replace("{name: ensemble}", "{name: ensemble, local_cache: '${MY_CACHE}/v2'}")

    assert desk.load(text).cache_root == Path("/scratch/cache/v2")
    del desk.environ["MY_CACHE"]
    with pytest.raises(ManifestError, match=r"scalable\.yaml:2: the variable 'MY_CACHE' is not set") as caught:
        desk.load(text)
    assert "export MY_CACHE" in caught.value.hint


def test_that_directories_come_from_the_environment_first(desk, monkeypatch):
    """Our variables win over Scalable's, both over the manifest."""
    monkeypatch.chdir(desk.base.parent)
    desk.environ |= {"SCALABLE_CACHE_DIR": "/old/cache", "SCALABLE_RUNS_DIR": "/old/runs"}
    desk.environ |= {"SCALABLE_HPC_RUNS_DIR": "runs-here"}
    found = desk.load(FULL, "laptop")

    assert found.cache_root == Path("/old/cache")
    assert found.runs_root == desk.base.parent / "runs-here"
    assert found.sources["cache_root"] == "$SCALABLE_CACHE_DIR"
    assert found.sources["runs_root"] == "$SCALABLE_HPC_RUNS_DIR"


def test_that_the_stores_care_is_said_by_environment_or_manifest(desk):
    """How durable and how often verified: the environment, then the manifest, then the careful default."""
    text = LOCAL.replace("{name: ensemble}", "{name: ensemble, cache_durability: close, cache_verify: never}")
    found = [desk.load(LOCAL), desk.load(text)]
    desk.environ |= {"SCALABLE_HPC_CACHE_DURABILITY": "fsync", "SCALABLE_CACHE_VERIFY": "always"}
    found.append(desk.load(text))
    desk.environ["SCALABLE_HPC_CACHE_VERIFY"] = "sometimes"

    cared = [(one.cache_durability, one.cache_verify) for one in found]
    assert cared == [("fsync", "once"), ("close", "never"), ("fsync", "always")]
    assert found[2].sources["cache_verify"] == "$SCALABLE_CACHE_VERIFY"
    with pytest.raises(ManifestError, match="must be one of once, always, never, not 'sometimes'"):
        desk.load(text)


def test_that_the_manifest_is_found_by_variable_or_in_the_current_directory(desk, monkeypatch):
    """An argument wins over both."""
    here = desk.write(LOCAL)
    other = desk.write(LOCAL.replace("ensemble", "other"), "other.yaml")
    monkeypatch.chdir(desk.base)

    assert load_manifest(environ={}).path == here
    assert load_manifest(environ={"SCALABLE_MANIFEST": str(other)}).project_name == "other"
    assert load_manifest(here, environ={"SCALABLE_HPC_MANIFEST": str(other)}).project_name == "ensemble"


def test_that_a_missing_manifest_is_told_with_what_to_do(tmp_path):
    """The path as it was given."""
    with pytest.raises(ManifestError, match=r"no manifest at '.*nothing\.yaml'") as caught:
        load_manifest(tmp_path / "nothing.yaml", environ={})

    assert "SCALABLE_HPC_MANIFEST" in caught.value.hint


def test_that_a_manifest_that_cannot_be_read_is_told(tmp_path):
    """The system's reason is kept."""
    with pytest.raises(ManifestError, match=r"cannot read the manifest '.*': .*[Dd]irectory"):
        load_manifest(tmp_path, environ={})


def test_that_a_file_that_is_no_text_is_told(tmp_path):
    """A binary file named by mistake."""
    path = tmp_path / "scalable.yaml"
    path.write_bytes(b"\x80\x81\xff")

    with pytest.raises(ManifestError, match="cannot read the manifest"):
        load_manifest(path, environ={})


def test_that_a_file_that_is_no_yaml_is_one_finding_of_the_report(desk):
    """Nothing else can be said about it."""
    path = desk.write("version: [1\n")

    assert [(issue.code, issue.line) for issue in validate_manifest(path, environ={}).errors] == [("E_YAML", 2)]
    with pytest.raises(ManifestError, match=r"scalable\.yaml:2: not YAML"):
        load_manifest(path, environ={})


@pytest.mark.parametrize("part", ["targets", "components", "tasks", "project", "overlays"])
def test_that_a_section_of_the_wrong_kind_is_told(desk, part):
    """A list where a mapping belongs."""
    text = f"version: 1\n{part}: [a, b]\n"
    with pytest.raises(ManifestError, match=f"{part} is 'a list': must be a mapping"):
        desk.load(text)

    assert not desk.validate(text).ok


@pytest.mark.parametrize("part", ["targets", "components", "tasks", "project", "overlays"])
def test_that_an_empty_section_is_as_good_as_none(desk, part):
    """``tasks:`` with nothing under it."""
    assert desk.validate(f"version: 1\n{part}:\n").ok


def test_that_overrides_win_over_everything_and_are_checked_like_the_file(desk):
    """Of the target by plain name, of other sections by full name."""
    asked = {"walltime": "00:30:00", "allocations.max": 9, "components.gcam.cpus": 32, "qos": "high"}
    found = desk.load(FULL, "hpc", asked)

    assert found.target.walltime_s == 1800
    assert found.target.allocations_max == {"gcam": 9}
    assert found.worker_types["gcam"].cpus == 32
    assert found.sources["target.qos"] == "override"
    with pytest.raises(ManifestError, match="override: unknown key 'allocation'"):
        desk.load(FULL, "hpc", {"allocation.max": 3})
    with pytest.raises(WalltimeError, match="override: walltime is 'soon'"):
        desk.load(FULL, "hpc", {"walltime": "soon"})


@pytest.mark.parametrize("content", ["[a]", "3", "{overlays: {x: {}}}"], ids=["list", "number", "nested"])
@pytest.mark.parametrize("used", [True, False])
def test_that_an_overlay_of_the_wrong_shape_is_told(desk, content, used):
    """Used or not, it is a part of a manifest."""
    text = FULL[: FULL.index("      big:\n")] + f"      big: {content}\n"
    text = text if used else text.replace("overlay: big", "exclusive: true")

    assert [code for code, _, line in issues(desk.validate(text)) if line == 28] == ["E_BAD_VALUE"]


def test_that_two_spellings_of_one_setting_are_refused(desk):
    """``queue`` and ``partition``."""
    with pytest.raises(ManifestError, match="'queue' and 'partition' mean the same"):
        desk.load(FULL.replace("queue: standard", "queue: standard\n        partition: other"), "hpc")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/scalable.yaml")), ids=lambda path: path.parent.name)
def test_that_the_examples_have_no_findings(path):
    """Neither errors nor warnings, on any target."""
    report = validate_manifest(path, environ={})

    assert (report.errors, report.warnings) == ((), ())


def test_that_half_a_character_is_refused_with_its_line(tmp_path):
    """YAML can spell one; no job script could be written with it."""
    path = tmp_path / "scalable.yaml"
    path.write_text('version: 1\ntargets:\n  here:\n    provider: local\n    env: {A: "x\\ud800"}\n')

    with pytest.raises(ManifestError, match=r"scalable\.yaml:5: .*half a character"):
        load_manifest(path)
