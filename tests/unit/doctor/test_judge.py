"""What the doctor makes of facts: each thing that can be wrong is found, with a remedy, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scalable_hpc.batch.machine import MachineSeen, QueueSeen
from scalable_hpc.config.fit import Ask
from scalable_hpc.doctor.facts import CommandSeen, Facts, NodeSeen, PackageSeen, PlaceSeen, ProbeSeen
from scalable_hpc.doctor.finding import Level
from scalable_hpc.doctor.judge import CHECKS, examine, exit_code

PACKAGES = (
    PackageSeen("scalable-hpc", "0.1.0"),
    PackageSeen("distributed", "2026.8.0"),
    PackageSeen("model", "1.2", digest="aa"),
)
NODE = NodeSeen(
    host="n1", python="3.11.7", executable="/venv/bin/python", packages=PACKAGES,
    places=(PlaceSeen("run", "/scratch/runs", is_visible=True, mb_per_s=300.0),), cpus=8, interfaces=("lo", "ib0"),
    runtimes=("apptainer",), to_driver="", from_driver="", address="10.0.0.2:1", skew_s=0.01, cipher="TLSv1.3",
)  # fmt: skip
PARTITIONS = (
    QueueSeen("batch", is_default=True, walltime_s=3600, nodes=4, cpus=16, memory=2**34, gpus=0),
    QueueSeen("long", walltime_s=86400),
)
WELL = Facts(
    target="cluster", provider="slurm", host="login", python="3.11.7", packages=PACKAGES,
    commands=(CommandSeen("sbatch", "/usr/bin/sbatch", "22.05"),),
    machine=MachineSeen("slurm", "juniper", "22.05", PARTITIONS), ask=Ask("model", 1, 8, 2**30, 0, 600),
    interface="ib0", interfaces=("lo", "ib0"), listening="10.0.0.1:40000", run_dir="/scratch/runs",
    run_dir_mode=0o700, free_bytes=2**40, image="image.sif", runtime="apptainer",
    probe=ProbeSeen("17", "", 2.0, "running"), nodes=(NODE,), modules=("model",),
)  # fmt: skip


def with_node(**changes) -> Facts:
    return replace(WELL, nodes=(replace(NODE, **changes),))


def with_package(**changes) -> Facts:
    *others, model = PACKAGES
    return with_node(packages=(*others, replace(model, **changes)))


def with_release(name: str, version: str | None) -> Facts:
    return with_node(packages=tuple(replace(p, version=version) if p.name == name else p for p in PACKAGES))


def asking(**changes) -> Facts:
    return replace(WELL, ask=replace(WELL.ask, **changes))


def probed(**changes) -> Facts:
    return replace(WELL, nodes=(), probe=replace(WELL.probe, **changes))


W, D, U = Level.WRONG, Level.DOUBTFUL, Level.UNKNOWN
CASES = {
    "warning": (replace(WELL, warnings=("no account is set",)), "manifest", D, "no account is set"),
    "no command": (replace(WELL, commands=(CommandSeen("sbatch", None),)), "commands", W, "'sbatch' is not on PATH"),
    "silent command": (
        replace(WELL, commands=(CommandSeen("sacct", "/bin/sacct", "refused", works=False),)), "commands", D, "refused",
    ),
    "silent controller": (replace(WELL, machine=None, machine_error="no answer"), "limits", U, "no answer"),
    "walltime": (asking(walltime_s=7200), "limits", W, "its longest walltime is 01:00:00"),
    "nodes": (asking(nodes=9), "limits", W, "at most 4 nodes"),
    "cpus of a node": (asking(cpus=32), "limits", W, "its largest node has 16 cpus"),
    "memory of a node": (asking(memory=2**40), "limits", W, "its largest node has 16 GiB"),
    "gpus of a node": (asking(gpus=1), "limits", W, "its largest node has 0 gpus"),
    "no partition": (replace(WELL, partition="debgu"), "limits", W, "wants 'debgu', which is not there"),
    "closed": (
        replace(WELL, machine=replace(WELL.machine, partitions=(replace(PARTITIONS[0], closed="DOWN"),))),
        "limits", D, "is not open to all: DOWN",
    ),
    "too few nodes": (
        replace(WELL, machine=replace(WELL.machine, partitions=(replace(PARTITIONS[0], least_nodes=2),))),
        "limits", W, "at least 2 nodes",
    ),
    "no interface here": (replace(WELL, interfaces=("lo",)), "interface", W, "has no interface 'ib0'"),
    "no port": (replace(WELL, listening_error="no port is free"), "interface", W, "no port is free"),
    "open directory": (replace(WELL, run_dir_mode=0o755), "run directory", W, "mode 0755"),
    "full disk": (replace(WELL, free_bytes=2**20), "run directory", D, "1 MiB left"),
    "no probe": (replace(WELL, probe=None, nodes=()), "probe", U, "no job was submitted"),
    "refused": (probed(refusal="invalid account"), "probe", W, "invalid account"),
    "still waits": (probed(state="pending", because="Resources"), "probe", U, "Resources"),
    "set-up fails": (probed(state="ended", because="FAILED", output="no module"), "probe", W, "no module"),
    "one node silent": (replace(WELL, wanted_nodes=2, probe=replace(WELL.probe, state="ended")), "probe", W, "1 of 2"),
    "output unwritable": (
        replace(WELL, probe=replace(WELL.probe, had_no_output=True)), "shared directories", W, "cannot write a job's",
    ),
    "not shared": (
        with_node(places=(PlaceSeen("run", "/tmp/runs", is_visible=False),)), "shared directories", W, "does not see",
    ),
    "read only": (
        with_node(places=(PlaceSeen("cache", "/home/c", is_visible=True, error="Read-only file system"),)),
        "shared directories", W, "Read-only file system",
    ),
    "slow": (
        with_node(places=(PlaceSeen("run", "/nfs", is_visible=True, mb_per_s=3.0),)),
        "shared directories", D, "3.0 MB/s",
    ),
    "no interface there": (with_node(interfaces=("lo",)), "network", W, "n1 has no interface 'ib0'"),
    "driver unreachable": (with_node(to_driver="refused", cipher=""), "network", W, "n1 to driver"),
    "node unreachable": (with_node(from_driver="no answer in time"), "network", W, "driver to n1"),
    "network not tried": (with_node(to_driver=None, cipher=""), "network", U, "not tried"),
    "no encryption": (with_node(cipher=""), "tls", W, "not encrypted"),
    "other Python": (with_node(python="3.12.1"), "python", W, "3.12.1"),
    "other patch": (with_node(python="3.11.2"), "python", D, "3.11.2"),
    "package missing": (with_release("distributed", None), "packages", W, "has no distributed"),
    "other release": (with_release("distributed", "2024.1.0"), "packages", W, "2024.1.0"),
    "other patch release": (with_release("distributed", "2026.8.1"), "packages", D, "2026.8.1"),
    "ours is another": (with_release("scalable-hpc", "0.1.1"), "packages", W, "0.1.1"),
    "module missing": (with_package(version=None, error="ModuleNotFoundError"), "packages", W, "has no model"),
    "module edited": (with_package(digest="bb"), "packages", W, "is not the driver's"),
    "module broken here": (
        replace(WELL, packages=(*PACKAGES[:2], PackageSeen("model", None, "", "SyntaxError"))),
        "packages", W, "SyntaxError",
    ),
    "clock a bit off": (with_node(skew_s=-5.0), "clock", D, "5.000 s behind"),
    "clock far off": (with_node(skew_s=90.0), "clock", W, "90.000 s ahead"),
    "clock unknown": (with_node(skew_s=None), "clock", U, "not compared"),
    "no container": (with_node(runtimes=()), "container", D, "no sign of running image 'image.sif'"),
    "another container": (with_node(runtimes=("podman-hpc",)), "container", D, "no sign of running image 'image.sif'"),
    "fewer cpus": (with_node(cpus=4), "cpus", D, "8 cpus asked for, 4 may be used"),
}  # fmt: skip


def test_that_a_well_target_is_found_well():
    """Nothing to do, exit code 0, and every check has something to say."""
    findings = examine(WELL)

    assert [finding for finding in findings if finding.level is not Level.OK] == []
    assert {finding.check for finding in findings} == set(CHECKS)
    assert exit_code(findings) == 0


@pytest.mark.parametrize(("facts", "check", "level", "said"), CASES.values(), ids=CASES.keys())
def test_that_each_fault_is_found_where_it_is(facts, check, level, said):
    """With its words and its remedy; the exit code says how bad it is."""
    found = [finding for finding in examine(facts) if finding.check == check and finding.level is level]

    assert said in "\n".join(finding.said for finding in found)
    assert all(finding.remedy for finding in found if finding.check != "clock" or level is not U)
    assert exit_code(examine(facts)) == (41 if level is W else exit_code(tuple(found)))


def test_that_local_targets_have_no_limits_to_be_asked_for():
    """There is no controller to ask, and its silence is nothing to look into."""
    facts = replace(WELL, provider="local", machine=None, commands=())

    assert {f.check for f in examine(facts)} & {"limits", "commands"} == set()
    assert exit_code(examine(facts)) == 0
