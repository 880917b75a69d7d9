from __future__ import annotations

import pytest

from scalable_hpc.config.manifest import load_manifest
from scalable_hpc.config.site import Place, places
from scalable_hpc.errors import SiteError
from tests.manifest_files import LOCAL

SLURM = LOCAL.replace("local", "slurm")


def test_that_layers_win_in_their_order_and_each_value_knows_its_own(desk):
    """Built-in < admin < user < project < manifest < override."""
    layers = [Place(desk.base / name, name) for name in ("builtin", "admin", "user", "project")]
    desk.write(
        "{batch: slurm, partition: p1, account: a1, qos: q1, constraint: c1, gres: g1, reservation: r1}",
        "builtin/slurm-generic.yaml",
    )
    desk.write("{account: a2, qos: q2, constraint: c2, gres: g2, reservation: r2}", "admin/slurm-generic.yaml")
    desk.write("{qos: q3, constraint: c3, gres: g3, reservation: r3}", "user/slurm-generic.yaml")
    desk.write("{constraint: c4, gres: g4, reservation: r4}", "project/slurm-generic.yaml")
    path = desk.write(SLURM + "        gres: g5\n        reservation: r5\n")
    found = load_manifest(path, None, {"reservation": "r6"}, environ={}, site_places=layers)
    target = found.target

    values = (target.partition, target.account, target.qos, target.constraint, target.gres, target.reservation)
    assert values == ("p1", "a2", "q3", "c4", "g5", "r6")
    sources = [
        found.sources[f"target.{key}"] for key in ["partition", "account", "qos", "constraint", "gres", "reservation"]
    ]
    assert sources == [
        "builtin/slurm-generic.yaml:1",
        "admin/slurm-generic.yaml:1",
        "user/slurm-generic.yaml:1",
        "project/slurm-generic.yaml:1",
        "scalable.yaml:6",
        "override",
    ]


def test_that_a_higher_places_defaults_win_over_a_lower_places_site(desk):
    """A user's habits hold on every machine."""
    layers = [Place(desk.base / name, name) for name in ("low", "high")]
    desk.write("{account: of-the-site, qos: of-the-site}", "low/slurm-generic.yaml")
    desk.write("{account: mine}", "high/defaults.yaml")
    target = load_manifest(desk.write(SLURM), environ={}, site_places=layers).target

    assert (target.account, target.qos) == ("mine", "of-the-site")


def test_that_the_usual_places_are_package_admin_user_and_project(desk):
    """In this order; XDG_CONFIG_HOME moves the user's."""
    builtin, admin, user, project = places(desk.base, desk.environ)

    assert (builtin.folder / "slurm-generic.yaml").is_file()
    assert str(admin.folder) == "/etc/scalable_hpc/sites"
    assert user.folder == desk.base / "home/.config/scalable_hpc/sites"
    assert project.folder == desk.base / "site-configs"
    moved = places(desk.base, {**desk.environ, "XDG_CONFIG_HOME": "/cfg"})
    assert str(moved[2].folder) == "/cfg/scalable_hpc/sites"
    assert len(places(builtin.folder.parent, {})) == 2


def test_that_a_users_site_is_found_by_name(desk):
    """A site that does not come with the package; its lists and mappings arrive."""
    desk.write(
        """
        batch: slurm
        interface: ib0
        scheduler_port: 8786
        setup: |
          ulimit -c 0
          umask 027
        modules: [gcc/12]
        env: {A: site, B: site}
        commands: {sbatch: /opt/slurm/bin/sbatch --clusters=big}
        """,
        "home/.config/scalable_hpc/sites/mine.yaml",
    )
    found = desk.load(SLURM + "        site: mine\n        env: {B: manifest}\n        modules: []\n")
    target = found.target

    assert target.site == "mine"
    assert (target.interface, target.scheduler_port) == ("ib0", 8786)
    assert target.setup == ("ulimit -c 0\numask 027\n",)
    assert target.modules == ()
    assert dict(target.env) == {"A": "site", "B": "manifest"}
    assert target.commands == {"sbatch": ("/opt/slurm/bin/sbatch", "--clusters=big")}
    assert found.sources["target.interface"].endswith("sites/mine.yaml:2")
    assert found.sources["target.env.B"] == "scalable.yaml:7"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("interfase: ib0", ["site-configs/mine.yaml:1", "'interfase'", "did you mean 'interface'"]),
        ("walltime: 12:00:00", ["site-configs/mine.yaml:1", "without quotes"]),
        ("poll: often", ["poll is 'often'"]),
        ("setup: ['${NOPE}']", ["the variable 'NOPE' is not set"]),
        ("a: [", ["site-configs/mine.yaml:", "not YAML"]),
        ("batch: local", ["this site runs local", "'slurm'"]),
        ("comm_port: 1919", ["unknown key 'comm_port'"]),
    ],
)
def test_that_a_wrong_site_config_is_told_with_its_own_file_and_line(desk, content, words):
    """As an error of the site, not of the manifest; in a report, as one finding at the target."""
    desk.write(content, "site-configs/mine.yaml")
    text = SLURM + "        site: mine\n"
    with pytest.raises(SiteError) as caught:
        desk.load(text)

    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)
    assert [(issue.code, issue.path) for issue in desk.validate(text).errors] == [("E_SITE", "targets.here.site")]


def test_that_an_unknown_site_is_told_with_the_nearest_and_where_to_write_it(desk):
    """Every place that was looked at."""
    with pytest.raises(SiteError, match="did you mean 'slurm-generic'") as caught:
        desk.load(SLURM + "        site: slurm-genric\n")

    assert "/etc/scalable_hpc/sites" in caught.value.hint


def test_that_a_walltime_written_below_does_not_beat_one_written_above(desk):
    """``walltime`` and ``allocations.walltime`` are one setting, whichever spelling a layer uses."""
    desk.write("{allocations: {walltime: '03:00:00'}}", "site-configs/slurm-generic.yaml")

    assert desk.load(SLURM).target.walltime_s == 3 * 3600
    assert desk.load(SLURM + "        walltime: '00:10:00'\n").target.walltime_s == 600


def test_that_in_one_layer_the_full_spelling_wins_and_the_other_is_told(desk):
    """Nothing is dropped in silence."""
    text = SLURM + "        walltime: '00:10:00'\n        allocations: {walltime: '00:20:00'}\n"
    found = desk.load(text)

    assert found.target.walltime_s == 1200
    assert ("W_NO_EFFECT", "targets.here.walltime", 6) in [
        (issue.code, issue.path, issue.line) for issue in found.warnings
    ]


def test_that_a_relative_template_directory_starts_where_it_was_written(desk):
    """In a site config beside the manifest: there."""
    (desk.base / "site-configs" / "t").mkdir(parents=True)
    desk.write("templates: t", "site-configs/slurm-generic.yaml")
    (desk.base / "home/.config/scalable_hpc/templates").mkdir(parents=True)

    assert desk.load(SLURM).target.template_dirs == (
        desk.base / "site-configs" / "t",
        desk.base / "home/.config/scalable_hpc/templates",
    )
