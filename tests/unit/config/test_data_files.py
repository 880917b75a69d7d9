from __future__ import annotations

import pytest

from scalable_hpc.config.data_files import builtin_directory


@pytest.mark.parametrize(("kind", "file"), [("templates", "slurm/worker.sh.j2"), ("site-configs", "local.yaml")])
def test_that_a_checkouts_own_files_are_found(kind, file):
    """Beside the package: what is edited is what is used."""
    folder = builtin_directory(kind)

    assert (folder / file).is_file()
    assert (folder.parent / "pyproject.toml").is_file()
