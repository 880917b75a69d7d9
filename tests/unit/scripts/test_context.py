from __future__ import annotations

from pathlib import Path

from tests.script_contexts import BOXED, FULL, PLAIN, context


def test_that_the_worker_is_our_launcher_under_the_given_interpreter():
    """Prefix, interpreter, module, arguments."""
    assert PLAIN.worker == ("/home/me/venv/bin/python", "-m", "scalable_hpc.worker", *PLAIN.launcher)
    assert FULL.worker[:3] == ("numactl", "--interleave=all", "/home/me/venv/bin/python")
    assert PLAIN.container == ()


def test_that_a_container_sees_the_run_the_work_and_the_shared_directories_once():
    """Mounts as they were asked for; a directory inside another one is not bound twice."""
    binds = [word for word in BOXED.container if word.startswith("--bind")]

    assert binds == [
        "--bind=/data/gcam:/gcam/data",
        "--bind=/home/me/ensemble:/home/me/ensemble",
        "--bind=/scratch/me/cache:/scratch/me/cache",
        "--bind=/scratch/me/runs:/scratch/me/runs",
    ]


def test_that_a_container_gets_the_gpus_it_has():
    """``--nv``, and only then."""
    assert "--nv" in BOXED.container
    assert "--nv" not in context(image="x.sif", runtime="apptainer").container


def test_that_a_preload_script_is_read_by_the_containers_own_shell():
    """Its path is an argument, never a piece of code."""
    worker = context(image="x.sif", runtime="singularity", preload_script="/a b/$(x).sh").worker
    at = worker.index("bash")

    assert worker[0] == "singularity"
    assert worker[at : at + 4] == ("bash", "-c", '. "$0" && exec "$@"', "/a b/$(x).sh")


def test_that_gpus_are_asked_for_once():
    """By number, unless ``gres`` speaks of them already."""
    assert context(gpus=2).wants_gpus
    assert not context(gpus=2, gres="gpu:a100:2").wants_gpus
    assert context(gpus=2, gres="nvme:1").wants_gpus
    assert not PLAIN.wants_gpus


def test_that_a_template_sees_every_field():
    """By its own name."""
    seen = PLAIN.variables()

    assert seen["job_name"] == PLAIN.job_name
    assert seen["work_dir"] == Path("/home/me/ensemble")
    assert seen["worker"] == PLAIN.worker
