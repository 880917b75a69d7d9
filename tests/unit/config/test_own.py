"""A component may say for itself where it queues, and who does its work when it cannot be had."""

import pytest

from scalable_hpc.config.limits import allocation_limits
from scalable_hpc.errors import ManifestError
from scalable_hpc.job_scripts import render_script
from scalable_hpc.model.allocations import AllocationRequest
from scalable_hpc.planning import make_plan
from scalable_hpc.runs import RunDirectory

SEVERAL = """
    version: 1
    targets:
      cluster:
        provider: slurm
        partition: standard
        account: agri
        walltime: 4h
        lead: 10m
        allocations: {max: 4}
        fallback_after: 90s
    components:
      wide: {cpus: 8, fallback: narrow}
      narrow: {cpus: 2, partition: debug, qos: short, walltime: 20m, allocations: {max: 2, min: 1}, fallback: last}
      last: {cpus: 1, account: spare}
"""


@pytest.fixture
def several(desk):
    return desk.load(SEVERAL)


def test_that_a_component_queues_where_it_says(several):
    """Its own words are in its own script, and what it does not say is its target's."""
    scripts = make_plan(several).scripts

    assert "#SBATCH --partition=debug" in scripts["narrow"]
    assert "#SBATCH --qos=short" in scripts["narrow"]
    assert "#SBATCH --account=agri" in scripts["narrow"]
    assert "#SBATCH --time=0-00:20:00" in scripts["narrow"]
    assert "#SBATCH --partition=standard" in scripts["wide"]
    assert "--qos" not in scripts["wide"]
    assert "#SBATCH --account=spare" in scripts["last"]


def test_that_shorter_requests_are_usual_and_may_be_ruled_out(desk):
    """By the target or by a component; a plan says how short they may be."""
    said = SEVERAL.replace("max: 4}", "max: 4, shorten: false}")
    said = said.replace("{cpus: 1,", "{cpus: 1, allocations: {shorten: true},")

    usual, ruled_out = (make_plan(desk.load(text)) for text in (SEVERAL, said))

    assert {name: each.shortens for name, each in usual.limits.items()} == dict.fromkeys(
        ("wide", "narrow", "last"), True
    )
    assert {name: each.shortens for name, each in ruled_out.limits.items()} == {
        "wide": False,
        "narrow": False,
        "last": True,
    }
    assert "8 slots for 04:00:00 (down to 00:05:00 when less is left to do)" in str(usual)
    assert "8 slots for 04:00:00, at most" in str(ruled_out)
    told = ruled_out.to_dict()["worker_types"]
    assert [told[name]["walltime_at_least"] for name in ("wide", "last")] == ["04:00:00", "00:05:00"]


def test_that_an_allocation_of_a_short_time_is_not_warned_as_it_starts(desk, tmp_path):
    """A signal ten minutes before the end of five would come at once."""
    manifest = desk.load(SEVERAL.replace("lead: 10m", "signal_lead: 10m"))
    run = RunDirectory(tmp_path / "run")

    whole, short = (
        render_script(manifest, run, AllocationRequest("a0001", "wide", 1, walltime_s, "work"))
        for walltime_s in (4 * 3600, 300)
    )

    assert "#SBATCH --signal=B:USR1@600" in whole
    assert "--signal" not in short
    assert "#SBATCH --time=0-00:05:00" in short


def test_that_a_components_limits_are_its_own(several):
    """Numbers and walltime are its own, and the lead is cut to what a short walltime leaves."""
    limits = allocation_limits(several)

    assert (limits["narrow"].minimum, limits["narrow"].maximum, limits["narrow"].walltime_s) == (1, 2, 1200)
    assert limits["narrow"].lead_s == 400
    assert (limits["wide"].minimum, limits["wide"].maximum, limits["wide"].lead_s) == (0, 4, 600)


def test_that_fallbacks_form_a_chain(several):
    """A fallback's own fallback comes after it."""
    limits = allocation_limits(several)

    assert limits["wide"].fallbacks == ("narrow", "last")
    assert limits["narrow"].fallbacks == ("last",)
    assert limits["last"].fallbacks == ()
    assert limits["wide"].fallback_after_s == 90


@pytest.mark.parametrize(
    ("components", "line", "words"),
    [
        (
            "wide: {fallback: narow}\n      narrow: {}",
            6,
            "fallback is 'narow', which is not there; did you mean 'narrow'?",
        ),
        ("wide: {fallback: wide}", 6, "the fallbacks of 'wide' lead back to it: wide -> wide"),
        ("wide: {fallback: thin}\n      thin: {fallback: wide}", 6, "lead back to it: wide -> thin -> wide"),
        ("wide: {allocations: {min: 3, max: 2}}", 6, "allocations.min is 3, more than allocations.max, 2"),
        ("wide: {walltime: 1h, allocations: {walltime: 2h}}", 6, "mean the same: write one of them"),
    ],
)
def test_that_what_cannot_be_is_refused_with_its_line(desk, components, line, words):
    """An unknown fallback, a circle, and numbers that contradict each other are errors."""
    text = f"version: 1\ntargets:\n  here:\n    provider: slurm\ncomponents:\n  {components.replace('      ', '  ')}\n"

    with pytest.raises(ManifestError) as told:
        desk.load(text)

    assert words in str(told.value)
    assert f"scalable.yaml:{line}" in str(told.value)


def test_that_words_of_a_batch_system_have_no_effect_on_local(desk):
    """A manifest runs on this machine too; what has no effect there is told."""
    loaded = desk.load(SEVERAL.replace("provider: slurm", "provider: local"))

    told = {issue.path for issue in loaded.warnings if issue.code == "W_NO_EFFECT"}
    assert {"components.narrow.partition", "components.narrow.qos", "components.last.account"} <= told


def test_that_a_site_refuses_a_component_in_its_own_partition(desk):
    """A request is held against the limits of the partition that the component names."""
    desk.write(
        "batch: slurm\npartitions: {standard: {walltime: 1d}, debug: {walltime: 10m}}\n", "site-configs/juniper.yaml"
    )

    with pytest.raises(ManifestError) as told:
        desk.load(SEVERAL.replace("provider: slurm", "provider: slurm\n        site: juniper"))

    assert "walltime 0-00:20:00 is longer than" in str(told.value) or "is longer than" in str(told.value)
    assert "'narrow'" in str(told.value)


def test_that_a_sites_limit_of_jobs_reaches_the_fleet(desk):
    """It is for all components together."""
    desk.write("batch: slurm\njobs: 5\n", "site-configs/juniper.yaml")

    loaded = desk.load(SEVERAL.replace("provider: slurm", "provider: slurm\n        site: juniper"))

    assert loaded.target.most_jobs == 5


@pytest.mark.parametrize(("written", "node_s"), [("4", 14400), ("0.5", 1800)])
def test_that_a_budget_is_read_in_node_hours(desk, written, node_s):
    """A target's budget is a number of node-hours, whole or not."""
    text = f"version: 1\ntargets: {{here: {{provider: local, budget: {{node_hours: {written}}}}}}}\n"

    loaded = desk.load(text)

    assert loaded.target.budget_node_s == node_s
    assert loaded.settings["target.budget.node_hours"].value == written


def test_that_an_empty_budget_is_refused(desk):
    """Nothing can be run with no node-hours."""
    with pytest.raises(ManifestError, match="must be more than 0"):
        desk.load("version: 1\ntargets: {here: {provider: local, budget: {node_hours: 0}}}\n")
