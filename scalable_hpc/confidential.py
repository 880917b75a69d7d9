"""Environment variables that are secret, on their way to the workers: in a file that job scripts read.

A job script is copied by the batch system, shown by ``plan`` and kept with the run; this file is the owner's alone, and
gone when the run's last job is.

Rule 1: a secret is never in a script, on a command line, in a plan or in the journal.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from scalable_hpc.cluster.private_files import make_private_directory, write_private
from scalable_hpc.config.masking import is_secret
from scalable_hpc.runs import RunDirectory

_DRIVER = "driver.sh"

Variables = tuple[tuple[str, str], ...]


def parted(variables: Iterable[tuple[str, str]]) -> tuple[Variables, Variables]:
    """Return the variables that anybody may see, and the others."""
    every = tuple(variables)
    return (
        tuple(one for one in every if not is_secret(*one)),
        tuple(one for one in every if is_secret(*one)),
    )


def secrets_file(run: RunDirectory, worker_type: str | None) -> Path:
    """Where the secrets of a worker type lie; None: the driver's, where it is a batch job."""
    return run.secrets / (_DRIVER if worker_type is None else f"type-{quote(worker_type, safe='')}.sh")


def write_secrets(run: RunDirectory, worker_type: str | None, variables: Iterable[tuple[str, str]]) -> None:
    """Write those of the variables that are secret; nothing is written where there are none.

    Raises:
        OSError: the run directory cannot be written.
    """
    _, secret = parted(variables)
    if secret:
        text = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in secret)
        make_private_directory(run.secrets)
        write_private(secrets_file(run, worker_type), text.encode())


def remove_secrets(run: RunDirectory) -> None:
    """Delete what the run's jobs read; what a driver that is still in the queue will read stays."""
    if not run.is_chained:
        shutil.rmtree(run.secrets, ignore_errors=True)
        return
    for path in run.secrets.glob("type-*"):
        path.unlink(missing_ok=True)
