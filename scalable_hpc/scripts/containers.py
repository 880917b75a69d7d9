"""The words that run a command in an image, by container runtime; pure.

Rule 1: an image sees the given directories under the given paths, the node's network, and the allocation's variables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from scalable_hpc.errors import TemplateError

_DEVICES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")
_OURS = ("SCALABLE_HPC_*", "SLURM_*", "PBS_*", *_DEVICES, "TMPDIR")
"""Variables of an allocation; the last star of a name stands for anything."""
_TMP = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108  (mounted by most runtimes without being asked)


@dataclass(frozen=True, slots=True)
class Box:
    """An image and what a command in it gets of the node."""

    image: str
    work_dir: Path
    binds: tuple[tuple[str, str], ...]
    """Host path to path in the image."""
    gpus: int
    env: tuple[str, ...]
    """Names of variables that the job script sets."""


def container_words(runtime: str, box: Box) -> tuple[str, ...]:
    """Return the words before the command; the job script stands in the working directory already.

    Raises:
        TemplateError: a directory cannot be named in a mount.
    """
    return _RUNTIMES[runtime](box)


def outermost(directories: Iterable[Path]) -> list[Path]:
    """Return each directory that no other one contains."""
    distinct = list(dict.fromkeys(directories))
    return [one for one in distinct if not any(other in one.parents for other in distinct)]


def has_own_tmp(runtime: str) -> bool:
    """Whether ``/tmp`` in the image is another directory than the node's."""
    return runtime == "podman-hpc"


def is_tmp(directory: Path) -> bool:
    """Whether the directory is the node's ``/tmp`` or lies in it."""
    return any(tmp in (directory, *directory.parents) for tmp in _TMP)


def _apptainer(command: str) -> Callable[[Box], tuple[str, ...]]:
    def words(box: Box) -> tuple[str, ...]:
        gpus = ("--nv",) if box.gpus else ()
        return (command, "exec", *gpus, *_each("--bind", box), f"--pwd={box.work_dir}", box.image)

    return words


def _podman_hpc(box: Box) -> tuple[str, ...]:
    gpus = ("--gpu",) if box.gpus else ()
    env = tuple(f"--env={name}" for name in dict.fromkeys((*_OURS, *box.env)) if name in _OURS or not _is_ours(name))
    options = ("--rm", "--net=host", *gpus, *env, *_each("--volume", box), f"--workdir={box.work_dir}")
    return ("podman-hpc", "run", *options, box.image)


def _shifter(box: Box) -> tuple[str, ...]:
    return ("shifter", f"--image={box.image}", *_each("--volume", box))


def _charliecloud(box: Box) -> tuple[str, ...]:
    # --write-fake: mount points are made, in memory, where the image has none.
    return ("ch-run", "--write-fake", *_each("--bind", box), f"--cd={box.work_dir}", box.image, "--")


def _each(option: str, box: Box) -> tuple[str, ...]:
    for host, inside in box.binds:
        if any(sign in path for path in (host, inside) for sign in ":,;"):
            raise TemplateError(f"'{host}' cannot be seen in an image: its path holds ':', ',' or ';'")
    return tuple(f"{option}={host}:{inside}" for host, inside in box.binds)


def _is_ours(name: str) -> bool:
    return any(name.startswith(one[:-1]) for one in _OURS if one.endswith("*"))


_RUNTIMES: dict[str, Callable[[Box], tuple[str, ...]]] = {
    "apptainer": _apptainer("apptainer"),
    "singularity": _apptainer("singularity"),
    "podman-hpc": _podman_hpc,
    "shifter": _shifter,
    "charliecloud": _charliecloud,
}
