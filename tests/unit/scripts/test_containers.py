from __future__ import annotations

from pathlib import Path

import pytest

from scalable_hpc.config.work import RUNTIMES
from scalable_hpc.errors import TemplateError
from scalable_hpc.scripts.containers import Box, container_words
from tests.script_contexts import BOXED, IN_RUNTIME, context

BOX = Box("image", Path("/work"), (("/a b", "/data"), ("/work", "/work")), 2, ("OMP_NUM_THREADS", "SCALABLE_HPC_X"))
EXPECTED = {
    "apptainer": ("apptainer", "exec", "--nv", "--bind=/a b:/data", "--bind=/work:/work", "--pwd=/work", "image"),
    "singularity": ("singularity", "exec", "--nv", "--bind=/a b:/data", "--bind=/work:/work", "--pwd=/work", "image"),
    "podman-hpc": (
        *("podman-hpc", "run", "--rm", "--net=host", "--gpu"),
        *("--env=SCALABLE_HPC_*", "--env=SLURM_*", "--env=PBS_*", "--env=CUDA_VISIBLE_DEVICES"),
        *("--env=ROCR_VISIBLE_DEVICES", "--env=ZE_AFFINITY_MASK", "--env=TMPDIR", "--env=OMP_NUM_THREADS"),
        *("--volume=/a b:/data", "--volume=/work:/work", "--workdir=/work", "image"),
    ),
    "shifter": ("shifter", "--image=image", "--volume=/a b:/data", "--volume=/work:/work"),
    "charliecloud": (
        *("ch-run", "--write-fake", "--bind=/a b:/data", "--bind=/work:/work", "--cd=/work", "image", "--"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_that_each_runtime_gets_its_own_words(runtime):
    """Image, mounts, directory, gpus and variables, as its manual has them."""
    assert container_words(runtime, BOX) == EXPECTED[runtime]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("path", ["/a:/etc", "/a,/etc", "/a;/etc"])
def test_that_no_path_becomes_a_second_mount(runtime, path):
    """Such a path is refused, not mounted in part."""
    with pytest.raises(TemplateError, match="cannot be seen in an image"):
        container_words(runtime, Box("image", Path("/work"), ((path, path),), 0, ()))


@pytest.mark.parametrize(
    ("runtime", "node_local", "seen"),
    [
        ("apptainer", "/local/scratch", True),
        ("apptainer", "/tmp/me", False),
        ("charliecloud", "/tmp", False),
        ("shifter", "/var/tmp", False),
        ("podman-hpc", "/tmp/me", True),
    ],
)  # fmt: skip
def test_that_an_image_sees_the_nodes_own_scratch(runtime, node_local, seen):
    """Mounted where the runtime does not bring the node's /tmp along."""
    words = context(image="x", runtime=runtime, node_local=node_local).container

    assert any(word.endswith(f"={node_local}:{node_local}") for word in words) is seen


def test_that_the_worker_follows_the_image_as_its_command():
    """Prefix, container, image, then the interpreter; a preload script is read inside."""
    for boxed in (BOXED, *IN_RUNTIME.values()):
        words = boxed.worker
        at = words.index("bash")
        assert words[: len(boxed.launch_prefix)] == boxed.launch_prefix
        assert words[at - 1] == "--" or boxed.image in words[at - 1] or words[at - 1].startswith("--volume=")
        assert "python3" in words[at:]
