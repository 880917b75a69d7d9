"""Two unprivileged users and one project folder that both can write: what one plants never runs as the other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ALICE, MALLORY = 54321, 54322
PRESET = "batch: local\nsetup: touch {pwned}\ndetect: {{hostnames: ['*']}}\n"
TEMPLATE = "touch {pwned}\n"
MANIFEST = "version: 1\ntargets: {{here: {{provider: local{more}}}}}\ncomponents: {{work: {{cpus: 1}}}}\n"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two other users")


AS_USER = """\
import contextlib, io, os, sys
from scalable_hpc.cli import main

warm, there, user, *words = sys.argv[1:]
os.chdir(warm)
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    main(["plan"]), main(["site", "detect"])  # imports what the user may not be able to read
os.chdir(there)
os.setgroups([]), os.setgid(int(user)), os.setuid(int(user))
sys.exit(main(words))
"""


class Shared:
    """A project folder like /tmp: everybody writes, nobody removes what is another's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pwned = folder / "pwned"
        folder.chmod(0o1777)
        for name, mode in (("warm", 0o755), ("alice", 0o755), ("project", 0o1777)):
            (folder / name).mkdir()
            (folder / name).chmod(mode)
        os.chown(folder / "alice", ALICE, ALICE)
        (folder / "warm" / "scalable.yaml").write_text(MANIFEST.format(more=""))
        self.manifest()

    def manifest(self, more: str = "") -> None:
        file = self.folder / "project" / "scalable.yaml"
        file.write_text(MANIFEST.format(more=more))
        os.chown(file, ALICE, ALICE)

    def plants(self, text: str, path: str) -> None:
        """Mallory writes a file, and the folders that it needs."""
        file = self.folder / path
        missing = [each for each in file.parents if not each.exists()]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.format(pwned=self.pwned))
        for each in (file, *missing):
            os.chown(each, MALLORY, MALLORY)

    def ours(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Alice calls a verb in the project."""
        env = {**os.environ, "HOME": str(self.folder / "alice"), "SCALABLE_HPC_SITE_DIR": str(self.folder / "etc")}
        env.pop("XDG_CONFIG_HOME", None)
        places = (str(self.folder / "warm"), str(self.folder / "project"), str(ALICE))
        return subprocess.run(
            [sys.executable, "-c", AS_USER, *places, *words],
            env=env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip


@pytest.fixture
def shared() -> Iterator[Shared]:
    folder = Path(tempfile.mkdtemp(prefix="shpc-planted-", dir="/tmp"))  # pytest's own folder is root's alone
    place = Shared(folder)
    innocent = place.ours("plan")
    if innocent.returncode:
        shutil.rmtree(folder)
        pytest.skip(f"this checkout is not everybody's to read: {innocent.stderr[-200:]}")
    yield place
    assert not place.pwned.exists()
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("text", "path", "more"),
    [
        pytest.param(PRESET, "project/site-configs/oak.yaml", ", site: oak", id="preset"),
        pytest.param(PRESET, "project/site-configs/defaults.yaml", "", id="defaults of every site"),
        pytest.param(TEMPLATE, "project/mine/partials/setup.sh.j2", ", templates: [mine]", id="template"),
        pytest.param(TEMPLATE, "etc/templates/partials/setup.sh.j2", "", id="template of a false admin"),
        pytest.param(PRESET, "etc/sites/local.yaml", "", id="preset of a false admin"),
    ],
)
def test_that_what_another_user_planted_is_refused_by_name(shared, text, path, more):
    """Neither plan nor run takes it; the message names file and owner."""
    shared.manifest(more)
    shared.plants(text, path)

    for words in (["plan"], ["render"]):
        done = shared.ours(*words)
        assert done.returncode == 13, done.stdout + done.stderr
        assert f"is not read: it belongs to '{MALLORY}'" in done.stderr
        assert str(shared.pwned) not in done.stdout


def test_that_a_planted_preset_is_never_taken_for_this_machine(shared):
    """Although it says that it is: ``detect`` and ``site: auto`` leave it out, the plan goes on without it."""
    shared.manifest(", site: auto")
    shared.plants(PRESET, "project/site-configs/oak.yaml")

    detected, plan = shared.ours("site", "detect"), shared.ours("plan")
    assert "oak" not in detected.stdout
    assert "site 'oak' is left out" in detected.stderr
    assert plan.returncode == 0, plan.stderr
    assert str(shared.pwned) not in plan.stdout
