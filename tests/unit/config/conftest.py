from __future__ import annotations

from pathlib import Path

import pytest

from tests.manifest_files import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A project directory and an environment that hold nothing."""
    return Desk(tmp_path / "project")
