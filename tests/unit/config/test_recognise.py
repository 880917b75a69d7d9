from __future__ import annotations

from textwrap import dedent

import pytest

from scalable_hpc.config import surroundings
from scalable_hpc.config.data_files import builtin_directory
from scalable_hpc.config.manifest import load_manifest
from scalable_hpc.config.recognise import Surroundings, files_to_look_for, recognise, the_one
from scalable_hpc.config.site import BUILTIN, Place, read_site, site_names
from scalable_hpc.config.site_schema import Detection
from scalable_hpc.errors import SiteError

BUILTINS = (Place(builtin_directory("site-configs"), "built-in", BUILTIN),)
SIGNS = {
    "juniper": Detection(hostnames=("login*.juniper.example",), env={"JP_HOST": "juniper*"}, files=("/etc/juniper",)),
    "larch": Detection(hostnames=("login*",)),
    "yew": Detection(),
}


def here(*hostnames: str, files: tuple[str, ...] = (), **environ: str) -> Surroundings:
    return Surroundings(hostnames, environ, frozenset(files))


@pytest.mark.parametrize(
    ("seen", "sites"),
    [
        pytest.param(here("node7"), [], id="nothing"),
        pytest.param(here("LOGIN3.juniper.example", JP_HOST="juniper-2"), ["juniper", "larch"], id="most signs first"),
        pytest.param(here("desk", JP_HOST="larch"), [], id="a variable with another value"),
        pytest.param(here("desk", files=("/etc/juniper",)), ["juniper"], id="a file"),
        pytest.param(here("login1"), ["larch"], id="a short name"),
    ],
)
def test_that_a_machine_is_known_by_its_signs(seen, sites):
    """One sign is enough; a site without any is never found."""
    assert [one.site for one in recognise(SIGNS, seen)] == sites


def test_that_the_reasons_are_told():
    """One for each kind of sign, with what was seen."""
    (found,) = recognise({"juniper": SIGNS["juniper"]}, here("x", "login1.juniper.example", JP_HOST="juniper"))

    assert found.because == ("hostname login1.juniper.example is like login*.juniper.example", "$JP_HOST is juniper")
    assert files_to_look_for(SIGNS.values()) == {"/etc/juniper"}


def test_that_nobody_guesses_between_two():
    """A tie has no winner; more kinds of signs win."""
    tie = recognise({"a": SIGNS["larch"], "b": SIGNS["larch"]}, here("login1"))
    clear = recognise(SIGNS, here("login3.juniper.example", JP_HOST="juniper"))

    assert the_one(tie) is None
    assert the_one([]) is None
    assert the_one(clear).site == "juniper"


@pytest.mark.parametrize(
    ("site", "seen"),
    [
        ("perlmutter", here("login07", NERSC_HOST="perlmutter")),
        ("frontier", here("login05.frontier.olcf.ornl.gov")),
        ("derecho", here("derecho3", NCAR_HOST="derecho")),
        ("casper", here("casper-login1", NCAR_HOST="casper")),
        ("deception", here("deception02")),
        ("frontera", here("login1.frontera.tacc.utexas.edu")),
        ("aurora", here("aurora-uan-0009.hostmgmt1000.cm.aurora.alcf.anl.gov")),
        ("kestrel", here("kl1", NREL_CLUSTER="kestrel")),
    ],
)
def test_that_the_presets_know_their_machines(site, seen):
    """Each, and none of the others, by what it looks like there."""
    signs = {name: read_site(name, None, BUILTINS, {}).facts.detect for name in site_names(BUILTINS)}

    assert [one.site for one in recognise(signs, seen)] == [site]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A place with two sites, and a host called login1."""
    monkeypatch.setattr(surroundings, "hostnames", lambda: ("login1",))
    folder = tmp_path / "sites"
    folder.mkdir()
    (folder / "larch.yaml").write_text('batch: slurm\ndetect: {hostnames: ["login*"]}\npartition: wood\n')
    (folder / "broken.yaml").write_text("batch: slurm\npartitions: 7\n")
    return folder


def load(folder, provider="slurm", **changes):
    text = dedent(f"""\
        version: 1
        targets:
          here: {{provider: {provider}, site: auto}}
        components:
          work: {{cpus: 1}}
        """)
    where = (*BUILTINS, Place(folder, "sites"))
    return load_manifest(
        folder.parent / "m.yaml", text=text, environ={"HOME": "/nowhere", **changes}, site_places=where
    )


def test_that_a_target_may_leave_its_site_to_the_machine(machine):
    """``site: auto`` is the site that is recognised; the plan names it. A broken site does not disturb."""
    found = load(machine)

    assert (found.target.site, found.target.partition) == ("larch", "wood")
    assert [setting.value for name, setting in found.settings.items() if name == "target.site"] in ([], ["larch"])


def test_that_an_unknown_machine_is_a_generic_one(machine):
    """So is one that runs another batch system than the target's provider."""
    (machine / "larch.yaml").write_text('batch: pbs\ndetect: {hostnames: ["login*"]}\n')

    assert load(machine).target.site == "slurm-generic"
    assert load(machine, "local").target.site == "local"


def test_that_two_equal_machines_are_an_error_with_their_names(machine):
    """Nothing is taken at random."""
    (machine / "yew.yaml").write_text('batch: slurm\ndetect: {hostnames: ["login1"]}\n')

    with pytest.raises(SiteError, match="may be any of larch, yew"):
        load(machine)
