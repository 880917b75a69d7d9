"""``python -m tests.rig VERB``."""

from tests.rig.cli import main

raise SystemExit(main())
