from __future__ import annotations

import pytest

from scalable_hpc.errors import ManifestError
from tests.manifest_files import LOCAL

SLURM = LOCAL.replace("local", "slurm") + "        site: mine\n"
WORK = "    components:\n      work: {cpus: 16, memory: 100G}\n"
SITE = """
    batch: slurm
    partitions:
      small: {default: true, walltime: 1d, cpus: 8, gpus: 0}
      large: {walltime: 2d, cpus: 64, gpus: 0}
      short: {walltime: "00:10:00", cpus: 64, gpus: 0}
"""


@pytest.fixture
def site(desk):
    return lambda text: desk.write(text, "site-configs/mine.yaml")


def test_that_a_request_over_the_limits_is_refused_with_the_reason_of_each_partition(desk, site):
    """Before anything is submitted; the hint names one that fits."""
    site(SITE)
    with pytest.raises(ManifestError) as caught:
        desk.load(SLURM + "        partition: short\n" + WORK)

    message = caught.value.message
    assert "does not fit partition 'short' of site 'mine':" in message
    assert (
        "  small: 16 cpus are more than a node has, 8\n  large: fits\n  short: walltime 01:00:00 is longer" in message
    )
    assert caught.value.hint == "set partition: large"


def test_that_the_default_partition_is_checked_where_none_is_named(desk, site):
    """The batch system would take it."""
    site(SITE)
    with pytest.raises(ManifestError, match="does not fit partition 'small'"):
        desk.load(SLURM + WORK)


def test_that_without_a_default_only_what_fits_nowhere_is_refused(desk, site):
    """The batch system may choose; somewhere it must fit."""
    site(SITE.replace("default: true, ", ""))
    assert desk.load(SLURM + WORK).target.partition is None

    with pytest.raises(ManifestError, match="fits no partition of site 'mine'"):
        desk.load(SLURM + WORK.replace("16", "65"))


def test_that_an_unknown_partition_is_a_warning(desk, site):
    """The machine may have grown since its config was written; Slurm has the last word."""
    site(SITE)
    found = desk.load(SLURM + "        partition: larg\n" + WORK)

    assert ("W_UNKNOWN_TO_SITE", 7) in [(issue.code, issue.line) for issue in found.warnings]
    assert any("did you mean 'large'" in issue.message for issue in found.warnings)


@pytest.mark.parametrize(("setting", "mapping"), [("qos", "qoses"), ("constraint", "constraints")])
def test_that_qos_and_constraint_have_limits_too(desk, site, setting, mapping):
    """As on machines whose queues are QOSes and whose node types are features."""
    site(f"batch: slurm\n{mapping}: {{tiny: {{cpus: 4}}}}\n")
    with pytest.raises(ManifestError, match=f"does not fit {setting} 'tiny'"):
        desk.load(SLURM + f"        {setting}: tiny\n" + WORK)


def test_that_a_missing_account_is_asked_for_in_the_sites_own_words(desk, site):
    """What has no public source is asked from the user."""
    site("{batch: slurm, accounts: {required: true, pattern: 'm[0-9]+', ask: see iris.nersc.gov}}")
    with pytest.raises(ManifestError, match="wants an account") as caught:
        desk.load(SLURM)
    assert caught.value.hint == "see iris.nersc.gov"

    with pytest.raises(ManifestError, match=r"account is 'x1': site 'mine' has only such that match 'm\[0-9\]\+'"):
        desk.load(SLURM + "        account: x1\n")
    assert desk.load(SLURM + "        account: m17\n").target.account == "m17"


def test_that_nobody_asks_more_often_than_the_site_allows(desk, site):
    """A target may ask less often; more often is cut, with a word."""
    site("{batch: slurm, poll_floor: 30s}")
    found = desk.load(SLURM + "        poll: 5\n")

    assert found.target.poll_s == 30
    assert "W_SITE_BOUND" in [issue.code for issue in found.warnings]
    assert found.settings["target.poll"].value == "30 s"
    assert desk.load(SLURM + "        poll: 60\n").target.poll_s == 60


def test_that_no_more_jobs_are_wanted_than_a_user_may_have(desk, site):
    """The smallest of the site's and the partition's own number counts."""
    site("{batch: slurm, jobs: 40, partitions: {q: {jobs: 2}}}")
    target = "        allocations: {min: 3, max: 100}\n"

    assert desk.load(SLURM + target).target.allocations_max == {"default": 40}
    found = desk.load(SLURM + target + "        partition: q\n")
    assert (found.target.allocations_max, found.target.allocations_min) == ({"default": 2}, 2)
    assert "W_SITE_BOUND" in [issue.code for issue in found.warnings]


def test_that_a_wrong_fact_is_told_with_its_line(desk, site):
    """As any other error of a site config; inside lists too."""
    from scalable_hpc.errors import SiteError

    for text, words in {
        "batch: slurm\npartitions:\n  q: {cpu: 3}\n": "mine.yaml:3: unknown key 'cpu' in partitions.q; did you mean",
        "sources:\n- {url: https://x.org, read: yesterday}\n": "mine.yaml:2: read is 'yesterday': is not a date",
        "partitions:\n  q:\n    bins: [{nodes: 0, walltime: 1h}]\n": "mine.yaml:3: nodes is '0': must be at least 1",
        "accounts: {pattern: '('}\n": "is not a regular expression",
        "scheduler_ports: 9-1\n": "must rise",
    }.items():
        site(text)
        with pytest.raises(SiteError) as caught:
            desk.load(SLURM)
        assert words in str(caught.value), str(caught.value)


def test_that_runs_are_made_in_the_sites_scratch(desk, site):
    """In a directory of this project's, unless the environment says where."""
    site("{batch: slurm, scratch: '${SCRATCH:-}'}")
    beside = desk.load(SLURM).runs_root
    desk.environ["SCRATCH"] = str(desk.base / "scratch")
    there = desk.load(SLURM)

    assert beside == desk.base / ".scalable" / "runs"
    assert there.runs_root.is_relative_to(desk.base / "scratch" / ".scalable")
    assert there.runs_root.parent.name.startswith("project-")
    assert there.sources["runs_root"].endswith("site-configs/mine.yaml:1")
    desk.environ["SCALABLE_HPC_RUNS_DIR"] = str(desk.base / "elsewhere")
    assert desk.load(SLURM).runs_root == desk.base / "elsewhere"


def test_that_every_setting_tells_value_source_and_layer(desk, site):
    """Each layer by its name."""
    site("{batch: slurm, interface: ib0}")
    desk.write("{qos: high}", "home/.config/scalable_hpc/sites/defaults.yaml")
    desk.environ["SCALABLE_HPC_CACHE_DIR"] = str(desk.base / "c")
    found = desk.load(SLURM + "        account: a7\n" + WORK, None, {"walltime": "00:20:00"}).settings

    told = {name: (found[name].value, found[name].layer) for name in found}
    assert told["target.interface"] == ("ib0", "project")
    assert told["target.account"] == ("a7", "project")
    assert told["target.qos"] == ("high", "user")
    assert told["target.allocations.walltime"] == ("00:20:00", "command line")
    assert told["target.idle"] == ("15 s", "builtin")
    assert told["target.partition"] == ("not set", "default")
    assert told["cache_root"] == (str(desk.base / "c"), "environment")
    assert told["components.work.memory"] == ("100 GiB", "project")
    assert found["target.qos"].told_source.startswith("user: ")
