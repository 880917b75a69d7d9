"""What holds for every test: a home directory that is nobody's."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

pytest_plugins = ["tests.slurm_support", "tests.pbs_support", "tests.batch_systems"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-fuse",
        action="store_true",
        help="fail, do not skip, where /dev/fuse is there and no file system can be mounted",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Take HOME away before any test module is imported: imports read and write there too."""
    home = tempfile.mkdtemp(prefix="shpc-test-home-")
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    _live_in(patch, home)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where tests are spread over processes, begin with the files that wait longest: none is left over at the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: "scenarios" not in item.path.parts)


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory for this test alone."""
    directory = tmp_path_factory.mktemp("home")
    _live_in(monkeypatch, str(directory))
    return directory


def _live_in(patch: pytest.MonkeyPatch, home: str) -> None:
    patch.setenv("HOME", home)
    for name in [name for name in os.environ if name.startswith("XDG_")]:
        patch.delenv(name)
