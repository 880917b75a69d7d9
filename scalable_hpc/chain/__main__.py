"""``python -m scalable_hpc.chain RUN_DIRECTORY LINK``: what a driver's batch job runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from scalable_hpc.chain.link import Link
from scalable_hpc.errors import ScalableError
from scalable_hpc.runs import RunDirectory


def main(run_dir: str, number: str) -> int:
    """Be that link; return the job's exit code."""
    try:
        return Link(RunDirectory(Path(run_dir)), int(number), dict(os.environ)).go()
    except ScalableError as error:
        print(f"scalable-hpc: {error}", file=sys.stderr)  # noqa: T201 - the job's own output
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
