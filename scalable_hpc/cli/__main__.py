"""``python -m scalable_hpc.cli``: the same as ``scalable-hpc``."""

import sys

from scalable_hpc.cli import main

sys.exit(main())
