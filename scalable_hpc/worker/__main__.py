"""``python -m scalable_hpc.worker``: what a job script ends in."""

from __future__ import annotations

import sys

from scalable_hpc.worker.launcher import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
