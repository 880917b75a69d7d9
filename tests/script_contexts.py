"""Contexts of job scripts: a plain one, and one that says everything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from scalable_hpc.scripts.context import ScriptContext

RUN = "20261122T084512Z-ab12cd"

PLAIN = ScriptContext(
    run_id=RUN,
    allocation="a0007",
    job_name=f"scalable-{RUN}-a0007",
    comment=f"scalable_hpc {RUN}",
    worker_type="gcam",
    nodes=1,
    slots=4,
    cpus=16,
    memory=64 * 2**30,
    gpus=0,
    walltime_s=14_400,
    output=Path(f"/scratch/me/runs/{RUN}/logs/a0007.txt"),
    run_dir=Path(f"/scratch/me/runs/{RUN}"),
    work_dir=Path("/home/me/ensemble"),
    python=("/home/me/venv/bin/python",),
    launcher=(
        *("--run-dir", f"/scratch/me/runs/{RUN}", "--allocation", "a0007", "--worker-type", "gcam"),
        *("--slots", "4", "--cpus", "16", "--memory", str(64 * 2**30), "--walltime", "14400"),
    ),
)

FULL = replace(
    PLAIN,
    gpus=2,
    launch_prefix=("numactl", "--interleave=all"),
    env=(("OMP_NUM_THREADS", "4"), ("TITLE", 'it\'s a "big" run')),
    modules=("gcc/12", "cuda"),
    setup=("ulimit -c 0", "umask 027\nmkdir -p /tmp/ensemble\n"),
    preload_script="/home/me/ensemble/prepare.sh",
    partition="standard",
    account="0123",
    qos="high",
    constraint="[rack1|rack2]&ib",
    reservation="spring",
    licenses="scratch:1,matlab@server:2",
    clusters="big",
    exclusive=True,
    extra_directives=("--mail-type=END", "--nice=5"),
    excluded_nodes=("node07", "node09"),
    signal_lead_s=120,
)

BOXED = replace(
    FULL,
    nodes=2,
    gres="gpu:a100:2",
    python=("python3",),
    image="/home/me/images/gcam 7.sif",
    runtime="apptainer",
    mounts=(("/data/gcam", "/gcam/data"),),
    shared_dirs=(Path("/scratch/me/cache"), Path("/scratch/me/runs")),
)

PBS_FULL = replace(
    FULL,
    project="climate",
    place="pack",
    select_extras=("model=mil_ait",),
    resources=("filesystems=home:eagle",),
    extra_directives=("-m abe", "-W umask=022"),
    signal_lead_s=None,
)

PBS_BOXED = replace(BOXED, extra_directives=(), select_extras=("ngpus=2",), signal_lead_s=None)


SOFTWARE = replace(
    PLAIN,
    python=("python3",),
    module_paths=("/projects/crops/modules",),
    modules=("gcc/12", "openmpi"),
    conda="/projects/crops/envs/ensemble 7",
    conda_init="/opt/conda/etc/profile.d/conda.sh",
    venv=Path("/home/me/venv"),
    node_local="/local/scratch",
    mpi="pmix",
)
"""Everything that finds software on a node."""

_NAMED = replace(BOXED, image="ghcr.io/crops/gcam:7", node_local="/local/scratch")
IN_RUNTIME = {
    "podman-hpc": replace(_NAMED, runtime="podman-hpc"),
    "shifter": replace(_NAMED, runtime="shifter", image="docker:crops/gcam:7"),
    "charliecloud": replace(_NAMED, runtime="charliecloud", image="/home/me/images/gcam.sqfs"),
    "singularity": replace(_NAMED, runtime="singularity", image="/home/me/images/gcam 7.sif"),
}


ARRAY = replace(
    PLAIN,
    allocation="a0998",
    array=("a0998", "a0999"),
    job_name=f"scalable-{RUN}-a0998+",
    nodes=2,
    requeue=True,
    output=Path(f"/scratch/my 100%/runs/{RUN}/logs/a0998.log"),
    launcher=tuple(word for word in PLAIN.launcher if word not in ("--allocation", "a0007")),
)
"""Several allocations by one submission, which the batch system may run again."""

SEVERAL = replace(PLAIN, nodes=5, slots=1, nodes_per_worker=2)
"""Two workers, whose tasks have two nodes each, and a node that nobody uses."""


def context(**changes: Any) -> ScriptContext:
    return replace(PLAIN, **changes)


DRIVER = replace(
    FULL,
    allocation="driver-002",
    job_name=f"scalable-driver-002-{RUN}",
    worker_type="driver",
    slots=1,
    gpus=0,
    launcher=(),
    launch_prefix=(),
    command=("-m", "scalable_hpc.chain", f"/scratch/me/runs/{RUN}", "2"),
    after="4711",
    preload_script=None,
    excluded_nodes=(),
)
"""A link of a chain, after another one."""

INSIDE = replace(SOFTWARE, nodes=2)
"""An allocation on nodes of the driver's own job."""
