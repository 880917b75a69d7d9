from __future__ import annotations

import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.config.manifest import load_manifest
from scalable_hpc.config.site import Place, read_site
from scalable_hpc.config.trust import Reader, Trust, distrust, read_trusted, trust_in
from scalable_hpc.errors import ManifestError, SiteError
from tests.manifest_files import LOCAL

ME, OTHER, GROUP = 1000, 1001, 500
READER = Reader(ME, frozenset({ME}))
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
modes = st.integers(0, 0o777)


@given(st.integers(1, 10**6).filter(lambda user: user != ME), st.integers(0, 10**6), modes)
def test_that_a_file_of_somebody_else_is_never_read(owner, group, mode):
    """Whatever its mode, without a policy."""
    assert "belongs to" in (distrust(owner, group, mode, READER, Trust()) or "")


@given(modes.filter(lambda mode: mode & stat.S_IWOTH), st.sampled_from([0, ME, OTHER]))
def test_that_a_file_that_everybody_can_write_is_never_read(mode, owner):
    """Not even with a policy that trusts its owner and group."""
    trust = Trust(frozenset({OTHER}), frozenset({GROUP}))

    assert "by everybody" in (distrust(owner, GROUP, mode, READER, trust) or "")


@pytest.mark.parametrize(
    ("owner", "group", "mode", "trust", "is_read"),
    [
        (ME, ME, 0o644, Trust(), True),
        (0, 0, 0o644, Trust(), True),
        (ME, ME, 0o664, Trust(), True),
        (ME, GROUP, 0o664, Trust(), False),
        (ME, GROUP, 0o644, Trust(), True),
        (ME, GROUP, 0o664, Trust(groups=frozenset({GROUP})), True),
        (OTHER, GROUP, 0o664, Trust(groups=frozenset({GROUP})), True),
        (OTHER, OTHER, 0o644, Trust(users=frozenset({OTHER})), True),
        (OTHER, GROUP, 0o664, Trust(users=frozenset({OTHER})), False),
    ],
)
def test_that_owner_group_and_mode_decide(owner, group, mode, trust, is_read):
    """Mine, root's, and what the policy names; a group's only where the policy or nobody else is in it."""
    assert (distrust(owner, group, mode, READER, trust) is None) == is_read


@only_root
def test_that_a_preset_planted_by_another_user_is_refused(desk):
    """By name, with what to do; a policy of the user's own lets it in, one of the project's does not."""
    planted = desk.write("{batch: slurm, setup: ['touch /tmp/pwned']}", "site-configs/mine.yaml")
    os.chown(planted, OTHER, OTHER)
    text = "version: 1\ntargets: {t: {provider: slurm, site: mine}}\n"
    with pytest.raises(SiteError, match=f"is not read: it belongs to '{OTHER}'") as caught:
        desk.load(text)
    assert "trust:" in caught.value.hint

    vouching = desk.write(f"{{trust: {{users: ['{OTHER}']}}}}", "site-configs/defaults.yaml")
    with pytest.raises(SiteError, match="a project cannot say whom to trust"):
        desk.load(text)
    vouching.unlink()
    desk.write(f"{{trust: {{users: ['{OTHER}']}}}}", "home/.config/scalable_hpc/sites/defaults.yaml")
    assert desk.load(text).target.setup == ("touch /tmp/pwned",)


def test_that_a_folder_that_everybody_can_write_is_no_place_for_a_preset(desk):
    """Whoever can rename files in it could put another one there."""
    path = desk.write("{batch: slurm}", "site-configs/mine.yaml")
    path.parent.chmod(0o777)

    with pytest.raises(SiteError, match="can be written by everybody"):
        read_trusted(path, Trust())


@only_root
def test_that_a_link_does_not_launder_a_file(desk):
    """The file that is opened is the one that is looked at."""
    theirs = desk.write("{batch: slurm}", "theirs.yaml")
    os.chown(theirs, OTHER, OTHER)
    link = desk.base / "site-configs" / "mine.yaml"
    link.parent.mkdir()
    link.symlink_to(theirs)

    with pytest.raises(SiteError, match="belongs to"):
        read_site("mine", "slurm", [Place(link.parent, "here")], {})


def test_that_names_that_the_machine_does_not_know_are_nobody():
    """A policy for another machine trusts no one here."""
    assert trust_in(["no-such-user-here", "root"], ["no-such-group-here"]) == Trust(users=frozenset({0}))


def test_that_the_group_of_a_cache_is_said_by_environment_manifest_or_site(desk):
    """In this order; the setting tells who said it, and which layer that is."""
    written = LOCAL.replace("{name: ensemble}", "{name: ensemble, cache_group: ocean}")
    told = [desk.load(LOCAL)]
    desk.write("{trust: {cache_group: staff}}", "home/.config/scalable_hpc/sites/defaults.yaml")
    told += [desk.load(LOCAL), desk.load(written)]
    desk.environ["SCALABLE_HPC_CACHE_GROUP"] = "ice"
    told.append(desk.load(written))

    assert [one.cache_group for one in told] == [None, "staff", "ocean", "ice"]
    assert [one.settings["cache_group"].layer for one in told[1:]] == ["user", "project", "environment"]
    assert told[2].sources["cache_group"] == "scalable.yaml:2"


def test_that_a_projects_site_config_cannot_share_the_cache(desk):
    """Whoever may write beside a manifest could let anybody's results in."""
    desk.write("{trust: {cache_group: ocean}}", "site-configs/defaults.yaml")

    with pytest.raises(SiteError, match="a project cannot say whom to trust"):
        desk.load(LOCAL)


@only_root
def test_that_a_manifest_of_somebody_elses_cannot_share_the_cache(desk):
    """Not unless a policy trusts its owner; what else it says is another matter."""
    text = LOCAL.replace("{name: ensemble}", "{name: ensemble, cache_group: ocean}")
    path = desk.write(text)
    os.chown(path, OTHER, OTHER)
    with pytest.raises(ManifestError, match=f"somebody else could have written: it belongs to '{OTHER}'"):
        load_manifest(path, environ=desk.environ)

    os.chown(desk.write(LOCAL), OTHER, OTHER)
    assert load_manifest(path, environ=desk.environ).cache_group is None
    desk.write(f"{{trust: {{users: ['{OTHER}']}}}}", "home/.config/scalable_hpc/sites/defaults.yaml")
    os.chown(desk.write(text), OTHER, OTHER)
    assert load_manifest(path, environ=desk.environ).cache_group == "ocean"
