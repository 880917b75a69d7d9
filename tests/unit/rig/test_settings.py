"""What follows from a pretended cluster's settings, no cluster needed."""

from __future__ import annotations

import itertools
import tempfile

import pytest

from tests.rig import config
from tests.rig.settings import RigError, Settings, SlurmUnavailable, resolved

MACHINE = config.Machine(hostname="login1", user="root")


@pytest.mark.parametrize("mode", ["netns", "host"])
def test_that_two_instances_share_no_path_port_name_or_address(mode):
    """Several clusters may run side by side on one machine."""

    def claims(instance: int) -> set[str | int]:
        settings = Settings(instance=instance, mode=mode, nodes=240)
        ports = {settings.controller_port, settings.database_port, *map(settings.node_port, settings.node_names)}
        networks = {settings.interface, settings.subnet} if mode == "netns" else set()
        return {str(settings.root), settings.cluster, *settings.node_names, *ports, *networks}

    everybody = [claims(instance) for instance in (0, 1, 2, 9, 10, 11, 98, 99)]

    assert all(one.isdisjoint(other) for one, other in itertools.combinations(everybody, 2))
    assert all(port < 65536 for claim in everybody for port in claim if isinstance(port, int))


def test_that_settings_survive_the_disk():
    """What one command starts the next one finds, with the very same names and ports."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # pytest's own are too long for Unix sockets
        settings = Settings(instance=7, nodes=3, mode="host", accounting=False, directory=short)

        settings.save()

        assert Settings.load(settings.root) == settings
        assert Settings.load(settings.root / "nowhere") is None


def test_that_auto_takes_the_best_that_the_machine_can_do():
    """Namespaces and cgroups where they are to be had, else one address and a slurmd that looks itself."""
    rich = resolved(Settings(), namespaces=True, memory_cgroups=True)
    poor = resolved(Settings(), namespaces=False, memory_cgroups=False)

    assert (rich.mode, rich.memory_limit) == ("netns", "cgroup")
    assert (poor.mode, poor.memory_limit) == ("host", "poll")


def test_that_namespaces_asked_for_by_name_are_never_silently_replaced():
    """A test that needs a partition must not run without one."""
    with pytest.raises(SlurmUnavailable, match="CAP_NET_ADMIN"):
        resolved(Settings(mode="netns"), namespaces=False, memory_cgroups=True)


@pytest.mark.parametrize("wanted", [{"instance": 100}, {"instance": -1}, {"nodes": 0}, {"directory": "relative"}])
def test_that_impossible_settings_are_refused(wanted):
    """Before anything is started."""
    with pytest.raises(RigError):
        Settings(**wanted)


def test_that_a_running_cluster_is_only_joined_by_those_who_want_it_so():
    """What differs is named with both values; ``auto`` is content with anything."""
    running = Settings(nodes=4, mode="netns")

    assert running.differences({"nodes": 4, "mode": "auto"}) == []
    assert running.differences({"nodes": 8}) == ["nodes=4 (asked for: 8)"]


def test_that_without_accounting_nothing_of_slurmdbd_is_configured():
    """Many small sites have no slurmdbd: then sacct is disabled, and QOS and accounts are not checked."""
    texts = config.files(Settings(accounting=False, mode="netns"), MACHINE)

    assert "slurmdbd.conf" not in texts
    assert "accounting_storage/none" in texts["slurm.conf"]
    assert "AccountingStorageEnforce" not in texts["slurm.conf"]


def test_that_nodes_of_one_address_have_ports_of_their_own():
    """Host mode: what tells two slurmd on 127.0.0.1 apart."""
    settings = Settings(mode="host", nodes=8)

    assert len({settings.node_port(node) for node in settings.node_names}) == 8
    assert {settings.address(node) for node in settings.node_names} == {"127.0.0.1"}
