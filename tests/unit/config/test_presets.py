from __future__ import annotations

import re
from datetime import date

import pytest

from scalable_hpc.cli import main
from scalable_hpc.config.data_files import builtin_directory
from scalable_hpc.config.site import BUILTIN, Place, read_site, read_site_file
from scalable_hpc.config.site_schema import SiteFacts, schema_of_sites
from scalable_hpc.config.yaml_lines import Section

FOLDER = builtin_directory("site-configs")
GENERIC = {"defaults", "local", "slurm-generic", "pbs-generic", "docker-slurm"}
"""No machine of somebody's; what is in docker-compose.slurm.yml is checked beside it."""
MACHINES = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem not in GENERIC)
HABITS = {"poll", "sources"}
"""What a preset may say without a source: how we behave there, and where the rest comes from."""
CENTRES = {
    "NERSC": {"perlmutter"}, "OLCF": {"frontier"}, "ALCF": {"polaris", "aurora", "crux"}, "NCAR": {"derecho", "casper"},
    "TACC": {"stampede3", "frontera"}, "EuroHPC": {"lumi"}, "PNNL": {"deception"},
}  # fmt: skip


def leaves(tree: Section, where: tuple[str, ...] = ()):
    """Every dotted key that holds something other than a mapping; an empty mapping says nothing but its name."""
    for key, value in tree.items():
        if isinstance(value, Section) and value:
            yield from leaves(value, (*where, key))
        else:
            yield ".".join((*where, key))


def written(name: str):
    return read_site_file(FOLDER / f"{name}.yaml", f"{name}.yaml", {}, None)


@pytest.mark.parametrize("name", MACHINES)
def test_that_every_fact_about_a_machine_has_a_public_source_with_its_date(name):
    """What nobody published is left out, or asked from the user; nothing is invented."""
    tree, site = written(name)
    covered = [fact for source in site.sources for fact in source.facts]
    unsourced = [
        leaf
        for leaf in leaves(tree)
        if leaf.partition(".")[0] not in HABITS
        and not any(leaf == fact or leaf.startswith(f"{fact}.") for fact in covered)
    ]

    assert unsourced == []
    assert all(re.match(r"https://[\w.-]+/", source.url) for source in site.sources)
    assert all(date.fromisoformat(source.read) for source in site.sources)


@pytest.mark.parametrize("name", MACHINES)
def test_that_a_source_speaks_of_facts_that_are_there(name):
    """A fact that was taken out takes its source with it."""
    tree, site = written(name)
    there = set(leaves(tree))
    idle = [
        fact
        for source in site.sources
        for fact in source.facts
        if not any(leaf == fact or leaf.startswith(f"{fact}.") for leaf in there)
    ]

    assert idle == []
    assert site.sources


@pytest.mark.parametrize("name", MACHINES)
def test_that_a_preset_is_whole_with_its_defaults(name):
    """Merged with ``defaults.yaml`` it says its batch system, a line for people, and limits."""
    found = read_site(name, None, [Place(FOLDER, "built-in", BUILTIN)], {})

    assert found.facts.batch in ("slurm", "pbs")
    assert found.facts.description
    assert found.facts.partitions or found.facts.qoses


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_that_a_check_finds_no_mistake_in_what_comes_with_the_package(name, capsys):
    """The very command that admins are told to use."""
    assert main(["site", "check", str(FOLDER / f"{name}.yaml")]) == 0, capsys.readouterr().err


def test_that_the_well_known_centres_are_there():
    """At least ten machines, of both batch systems, one at least of each centre."""
    assert len(MACHINES) >= 10
    assert {centre for centre, names in CENTRES.items() if not names & set(MACHINES)} == set()
    assert {written(name)[1].batch for name in MACHINES} == {"slurm", "pbs"}


def test_that_the_json_schema_knows_every_key_and_refuses_others():
    """As YAML writes them: walltimes are text, memory is text or a number."""
    schema = schema_of_sites()
    partition = schema["$defs"]["Partition"]["properties"]

    assert set(SiteFacts.model_fields) <= set(schema["properties"])
    assert schema["additionalProperties"] is False
    assert {"queue", "queues", "interface"} <= set(schema["properties"])
    assert partition["walltime"]["anyOf"][0] == {"type": "string"}
    assert partition["memory"]["anyOf"][0] == {"type": ["string", "number"]}
    assert partition["nodes"]["anyOf"][0]["minimum"] == 1
