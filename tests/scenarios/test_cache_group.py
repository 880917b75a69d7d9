"""Two users of a group share a cache through real runs: one declares it in a manifest, the other in a site config."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.cache_support import ROOT
from tests.second_user import ALICE, MALLORY, NEEDS_ROOT, as_user

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason=NEEDS_ROOT)

BOB = MALLORY
"""Who is a colleague, this time."""
TEAM = 54399
DRIVER = """
import os
from scalable_hpc import ScalableSession, cacheable

@cacheable
def who(size):
    return os.getuid(), bytes(size)

if __name__ == "__main__":
    with ScalableSession.from_yaml("scalable.yaml") as client:
        print([user for user, _ in client.gather(client.map(who, [10, 300_000]))])
"""


@pytest.fixture
def team():
    """A directory of the team's: a cache and a key, and nothing in the environment that names the team."""
    base = Path(tempfile.mkdtemp(prefix="shpc-team-"))
    base.chmod(0o755)
    (base / "cache").mkdir()
    (base / "store.key").write_text("ab" * 32 + "\n")
    for path, mode in ((base / "cache", 0o2770), (base / "store.key", 0o640)):
        os.chown(path, -1, TEAM)
        path.chmod(mode)
    yield base
    shutil.rmtree(base)


def settle(team: Path, user: int, project: str, policy: str | None = None) -> Path:
    """Make a user's own project and home."""
    home = team / str(user)
    texts = {
        "scalable.yaml": f"version: 1\nproject: {{{project}}}\n"
        "targets: {here: {provider: local, capacity: {cpus: 1}}}\ncomponents: {work: {cpus: 1}}\n",
        "driver.py": DRIVER,
    }
    if policy is not None:
        texts[".config/scalable_hpc/sites/defaults.yaml"] = policy
    for name, text in texts.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    for path in (home, *home.rglob("*")):
        os.chown(path, user, user)
    return home


def act(team: Path, user: int, *words: str) -> str:
    home = team / str(user)
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("SCALABLE", "XDG", "PYTHONPATH"))
    }
    environ |= {"HOME": str(home), "PYTHONPATH": str(ROOT), "SCALABLE_HPC_STORE_KEY": str(team / "store.key")}
    command = as_user(user, *words, group=TEAM)
    done = subprocess.run(command, env=environ, cwd=home, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode and "Permission denied" in done.stderr and str(ROOT) in done.stderr:
        pytest.skip("this checkout is not everybody's to read")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_that_a_group_in_a_manifest_or_a_site_config_reaches_driver_workers_and_terminal(team):
    """Alice's workers keep what Bob's driver finds, and Bob's terminal counts it: no variable names the group."""
    settle(team, ALICE, f"local_cache: {team}/cache, cache_group: '{TEAM}'")
    settle(team, BOB, f"local_cache: {team}/cache", policy=f"trust: {{cache_group: '{TEAM}'}}\n")

    said = [act(team, user, "driver.py").strip() for user in (ALICE, BOB)]
    counted = json.loads(act(team, BOB, "-m", "scalable_hpc.cli", "cache", "stats", "--format", "json"))

    assert said == [str([ALICE, ALICE])] * 2
    assert (counted["root"], counted["entries"]) == (f"{team}/cache", 2)
