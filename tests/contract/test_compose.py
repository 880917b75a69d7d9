"""The cluster in containers is the one that the rig believes it to be."""

from __future__ import annotations

from pathlib import Path

import yaml

from scalable_hpc.config.data_files import builtin_directory
from tests.rig import config
from tests.rig.container.machine import INTERFACE, ROOT
from tests.rig.settings import Settings

PROJECT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((PROJECT / "docker-compose.slurm.yml").read_text())
SETTINGS = Settings(mode="container", directory=str(ROOT))


def address_of(service: str) -> str:
    return COMPOSE["services"][service]["networks"]["cluster"]["ipv4_address"]


def test_that_every_machine_has_the_address_that_slurm_is_told():
    """Docker would hand out others after a restart, and Slurm would send jobs to the wrong node."""
    told = {name: SETTINGS.address(name) for name in SETTINGS.node_names}
    told |= {"slurmctld": SETTINGS.head_address, "slurmdbd": SETTINGS.database_address}

    assert {name: address_of(name) for name in COMPOSE["services"]} == told
    for service in COMPOSE["services"].values():
        assert dict(line.split(":") for line in service["extra_hosts"]) == told


def test_that_all_machines_are_of_one_image_and_share_one_volume():
    """Separately built images have different munge users, and run directories must be seen by all."""
    services = COMPOSE["services"].values()

    assert len({service["image"] for service in services}) == 1
    assert all(f"cluster:{ROOT}" in service["volumes"] for service in services)
    assert SETTINGS.interface == INTERFACE


def test_that_nodes_have_no_privilege_but_over_their_own_network():
    """A test cluster that asks for --privileged is not started on other people's machines."""
    for name, service in COMPOSE["services"].items():
        assert "privileged" not in service
        assert service.get("cap_add", []) == (["NET_ADMIN"] if name in SETTINGS.node_names else [])


def test_that_old_and_new_compose_read_the_file():
    """Version 1 rejects a name, version 2 warns of a version."""
    assert not {"name", "version"} & COMPOSE.keys()


def test_that_the_site_config_tells_what_that_cluster_has():
    """Its users plan with it."""
    site = yaml.safe_load((builtin_directory("site-configs") / "docker-slurm.yaml").read_text())
    told = config.slurm_conf(SETTINGS, config.Machine("slurmctld", "root"))

    assert site["interface"] == SETTINGS.interface
    for name, partition in site["partitions"].items():
        assert f"PartitionName={name} " in told
        assert (partition["cpus"], partition["memory"]) == (SETTINGS.cpus, f"{SETTINGS.memory_mb}M")
