"""Another unprivileged user of the machine, while a real run is alive and after it: nothing is theirs to see or touch.

Alice works in a directory that everybody may look into, with a umask that hides nothing: what is private is private by
our doing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from scalable_hpc.cluster.security import create_tls_files
from scalable_hpc.runs import RunDirectory
from tests.second_user import (
    ALICE,
    MALLORY,
    NEEDS_ROOT,
    Listener,
    Targets,
    as_user,
    attempts,
    files_of,
    holding,
    listeners,
    processes,
)
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason=NEEDS_ROOT)

PASSWORD = "correct-horse-battery-staple"
HELD = 2_000_000
DRIVER = """
import hashlib, os, sys, time
from pathlib import Path
from scalable_hpc import ScalableSession, cacheable

HERE = Path({here!r})


@cacheable(return_type=bytes, size=int)
def result(size: int) -> bytes:
    return bytes(size)


def large(size):
    return bytes(size)


def knows():
    return hashlib.sha256(os.environ["LAB_TOKEN"].encode()).hexdigest()


def lasts():
    (HERE / "runs").touch()
    until = time.time() + 120
    while not (HERE / "go").exists() and time.time() < until:
        time.sleep(0.05)


if __name__ == "__main__":
    with ScalableSession.from_yaml(str(HERE / "scalable.yaml")) as client:
        assert len(client.submit(result, 10).result()) == 10
        assert len(client.submit(result, 300_000).result()) == 300_000
        kept = client.submit(large, {held}, persist=False), client.put(b"x" * 100_000)
        print(client.submit(knows).result(), flush=True)
        client.submit(lasts).result()
"""


class Place:
    """A directory that everybody may enter, and the run that its owner has there."""

    def __init__(self, base: Path, user: int) -> None:
        self.base, self.user = base, user
        self.started: list[subprocess.Popen[str]] = []
        base.chmod(0o755)
        (base / "home").mkdir(mode=0o755)
        for each in (base, base / "home"):
            os.chown(each, user, user)
        self.trap = base / "tmp" / "dask-scratch-space"  # made by Mallory, before Dask comes to it
        self.trap.mkdir(parents=True)
        self.trap.parent.chmod(0o1777)
        self.trap.chmod(0o777)
        os.chown(self.trap, MALLORY, MALLORY)

    def begin(self, target: Mapping[str, object], env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a run, and wait until it has everything that a run ever has."""
        manifest = {
            "version": 1,
            "targets": {"here": {**target, "env": {"LAB_TOKEN": "${LAB_TOKEN}"}}},
            "components": {"work": {"cpus": 2}},
        }
        for name, text in (
            ("scalable.yaml", json.dumps(manifest)),
            ("driver.py", DRIVER.format(here=str(self.base), held=HELD)),
        ):
            (self.base / name).write_text(text)
            os.chown(self.base / name, self.user, self.user)
        driver = self.calls(str(self.base / "driver.py"), env=env)
        assert driver.stdout is not None
        said = driver.stdout.readline().strip()
        if not said and "Permission denied" in (words := driver.communicate()[1]):
            pytest.skip(f"this checkout is not everybody's to read: {words[-200:]}")
        assert said == hashlib.sha256(PASSWORD.encode()).hexdigest(), driver.communicate()
        wait_until("a task runs", (self.base / "runs").exists, timeout=30)
        return driver

    def calls(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start Python as the owner."""
        home = {"HOME": str(self.base / "home"), "LAB_TOKEN": PASSWORD, "TMPDIR": str(self.trap.parent)}
        started = subprocess.Popen(
            as_user(self.user, *words, umask="0"), cwd=self.base, env={**os.environ, **home, **(env or {})}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self.started.append(started)
        return started

    def ends(self) -> None:
        """End everything that is of this place, also when a check failed with it in full course."""
        (self.base / "go").touch()
        for each in self.started:
            _ends(each)
        try:
            wait_until("its processes are gone", lambda: not self.processes(), timeout=60)
        finally:
            for pid in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    @property
    def run(self) -> RunDirectory:
        return RunDirectory(max((self.base / ".scalable" / "runs").iterdir()))

    def files(self) -> list[Path]:
        """Everything that the library has made of this user's, wherever it is."""
        elsewhere = () if self.user == 0 else (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))
        mine = {"scalable.yaml", "driver.py", "home", "runs", "go", "tmp"}
        found = files_of(self.user, self.base, *elsewhere)
        return [each for each in dict.fromkeys(found) if each not in {self.base, *(self.base / one for one in mine)}]

    def processes(self) -> dict[int, str]:
        return processes(user=self.user, naming=str(self.base))

    def secrets(self) -> dict[str, bytes]:
        """What nobody else may know."""
        key = (self.run.path / "security" / "key.pem").read_bytes().splitlines()[1]
        seal = (self.base / "home" / ".config" / "scalable_hpc" / "store.key").read_bytes().strip()
        return {"token": PASSWORD.encode(), "TLS key": key, "key of the store": seal}

    def who_may(self, secret: str) -> list[str]:
        """The files that may hold a secret."""
        run, home = self.run, self.base / "home" / ".config" / "scalable_hpc"
        return {
            "token": [str(run.secrets / "type-work.sh")],
            "TLS key": [str(run.path / "security" / "key.pem")],
            "key of the store": [str(home / "store.key"), str(run.store_key)],
        }[secret]


def _ends(driver: subprocess.Popen[str]) -> None:
    try:
        driver.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        driver.kill()
        driver.communicate()


@pytest.fixture
def mallorys() -> Iterator[tuple[str, str]]:
    """A certificate of another user's own making, and its key."""
    folder = Path(tempfile.mkdtemp(prefix="shpc-mallory-", dir="/tmp"))
    files = create_tls_files(folder, "run")
    for each in (folder, *folder.rglob("*")):
        os.chown(each, MALLORY, MALLORY)
    yield files.cert, files.key
    shutil.rmtree(folder)


@pytest.fixture(params=[pytest.param(ALICE, id="alice")])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    made = Place(Path(tempfile.mkdtemp(prefix="shpc-second-", dir="/tmp")), request.param)
    yield made
    made.ends()
    shutil.rmtree(made.base)


def nothing_is_open(place: Place, stranger: tuple[str, str]) -> list[Listener]:
    """Have Mallory try everything; return what listens."""
    pids, files = place.processes(), place.files()
    ports = listeners(pids)
    assert {each.kind for each in ports} == {"tcp"}, ports
    tcp = sorted({("127.0.0.1" if each.address == "0.0.0.0" else each.address, each.port) for each in ports})
    assert len(pids) > 3
    assert len(files) > 20
    if place.user:  # root's files elsewhere are not looked for: they are not this run's alone
        assert [each for each in files if each.stat().st_size >= HELD], "a held result is among what is tried"
    told = attempts(
        Targets(
            tcp=tcp,
            unix=[each.address for each in ports if each.kind == "unix"],
            paths=[str(each) for each in files],
            directories=[str(each) for each in files if each.is_dir()],
            pids=list(pids),
            certificates=[stranger],
        )
    )
    assert told == [], "\n".join(told)
    assert list(place.trap.iterdir()) == []

    own = place.run.path / "security"
    let_in = attempts(Targets(tcp=tcp, certificates=[(str(own / "cert.pem"), str(own / "key.pem"))]), user=place.user)
    assert len(let_in) == len(tcp), "who belongs to the run must be greeted, or the attempts above prove nothing"
    return ports


def nothing_is_told(place: Place) -> None:
    """No secret is in a command line, an environment that is not its own, or a file that is not for it."""
    secrets, files = place.secrets(), place.files()
    for pid, words in place.processes().items():
        assert not [name for name, secret in secrets.items() if secret.decode() in words], words
        environ = Path(f"/proc/{pid}/environ").read_bytes()
        assert not [name for name in ("TLS key", "key of the store") if secrets[name] in environ]
    holders = holding(files, secrets)
    assert sorted(holders) == sorted(path for name in secrets for path in place.who_may(name))
    for path in holders:
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600, path


def nothing_is_left(place: Place, secrets: Mapping[str, bytes]) -> None:
    """The run's keys and secrets are gone; that of the store is for reading the results."""
    assert not (place.run.path / "security").exists()
    assert not place.run.secrets.exists()
    assert sorted(holding(place.files(), secrets)) == sorted(place.who_may("key of the store"))


@pytest.mark.slow
def test_that_another_user_finds_no_way_into_a_run(place, mallorys):
    """No socket but the scheduler's and the workers' takes connections, and those take the run's certificate only;
    no file or process of the run is theirs to read, to write or to signal; and no secret outlives the run."""
    driver = place.begin({"provider": "local", "capacity": {"cpus": 2}})
    ports = nothing_is_open(place, mallorys)
    nothing_is_told(place)
    secrets = place.secrets()

    assert len(ports) == 2, "the scheduler's and one worker's"
    assert {each.address for each in ports} == {"127.0.0.1"}
    (place.base / "go").touch()
    out, err = driver.communicate(timeout=60)
    assert driver.returncode == 0, err
    assert PASSWORD not in out + err
    nothing_is_left(place, secrets)
    told = attempts(Targets(paths=[str(each) for each in place.files()]))
    assert told == [], "\n".join(told)


def test_that_a_killed_drivers_secrets_go_when_its_run_is_cancelled(place):
    """The driver cannot take them along; ``scalable-hpc cancel`` does."""
    driver = place.begin({"provider": "local", "capacity": {"cpus": 2}, "orphan_grace": 60})
    secrets = place.secrets()
    driver.kill()
    driver.communicate()
    cancel = place.calls("-m", "scalable_hpc.cli", "cancel", place.run.run_id)
    _, err = cancel.communicate(timeout=60)
    assert cancel.returncode == 0, err
    nothing_is_left(place, secrets)


CACHED = """
import os
from scalable_hpc import cacheable


@cacheable(return_type=bytes, size=int)
def result(size: int) -> bytes:
    return (os.environ["WHO"][:1] * size).encode()


print(result({size})[:1].decode())
"""


@pytest.mark.parametrize("size", [10, 300_000], ids=["in a pack", "a blob"])
@pytest.mark.parametrize("mallorys", ["directories and files", "files", "nothing any more"])
def test_that_a_result_that_another_user_planted_is_never_returned(place, size, mallorys):
    """Made by the very same call, under the same key. Whose the directory is decides first, then whose the file is,
    then whose key sealed the record."""
    script, cache = place.base / "cached.py", place.base / "tmp" / "cache"
    script.write_text(CACHED.format(size=size))

    def calls(who: str, user: int) -> tuple[str, str]:
        home = place.base / "tmp" / str(user)
        env = {"WHO": who, "HOME": str(home), "SCALABLE_HPC_CACHE_DIR": str(cache)}
        done = subprocess.run(
            as_user(user, str(script), umask="0"), env={**os.environ, **env}, cwd=place.base, text=True,
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        return done.stdout.strip(), done.stderr

    assert calls("mallory", MALLORY)[0] == "m"
    assert calls("who", MALLORY)[0] == "m", "it is in the cache, for those whose it is"
    for each in (cache, *cache.rglob("*")):
        each.chmod(0o777)
        if mallorys == "nothing any more" or (mallorys == "files" and each.is_dir()):
            os.chown(each, ALICE, ALICE)
    said, complaint = calls("alice", ALICE)
    assert said == "a", complaint
    assert (f"belongs to user id {MALLORY}" in complaint) == (mallorys == "directories and files")


def test_that_a_run_is_not_begun_in_a_directory_of_another_user(place):
    """They could exchange the run, and with it what is submitted, at any time."""
    os.chown(place.base, ALICE, ALICE)
    for name in (".scalable", ".scalable/runs"):
        (place.base / name).mkdir()
        (place.base / name).chmod(0o777)
        os.chown(place.base / name, MALLORY, MALLORY)
    (place.base / "scalable.yaml").write_text(json.dumps({"version": 1, "targets": {"here": {"provider": "local"}}}))
    (place.base / "driver.py").write_text(DRIVER.format(here=str(place.base), held=HELD))
    driver = place.calls(str(place.base / "driver.py"))
    said, complaint = driver.communicate(timeout=60)

    assert driver.returncode != 0
    assert f"it belongs to '{MALLORY}'" in complaint
    assert not said
    assert list((place.base / ".scalable" / "runs").iterdir()) == []


ETC = """
mount --make-rprivate / && mount -t tmpfs none /mnt && mkdir -p /mnt/new/scalable_hpc/sites /mnt/work &&
cp "$1" /mnt/new/scalable_hpc/sites/juniper.yaml && chown "$2" /mnt/new/scalable_hpc/sites/juniper.yaml &&
mount -t overlay none -o lowerdir=/etc,upperdir=/mnt/new,workdir=/mnt/work /etc || exit 125
shift 2
exec "$@"
"""
"""Shows a preset under the real ``/etc`` to one family of processes: the file, whose it is there, the command."""
JUNIPER = "batch: local\nwalltime: 7m\ndetect: {hostnames: ['*']}\n"


@pytest.mark.parametrize("whose", [0, MALLORY], ids=["root's", "another user's"])
def test_that_what_the_admin_put_under_etc_holds_for_every_user_and_nobody_elses_file_does(place, whose):
    """In ``/etc/scalable_hpc`` itself, with no variable that names another place."""
    preset, manifest = place.base / "juniper.yaml", place.base / "scalable.yaml"
    preset.write_text(JUNIPER)
    manifest.write_text(json.dumps({"version": 1, "targets": {"here": {"provider": "local", "site": "juniper"}}}))
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("SCALABLE_", "XDG_"))}
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", ETC, "sh", str(preset), str(whose),
         *as_user(ALICE, "-m", "scalable_hpc.cli", "plan")],
        cwd=place.base, env={**environ, "HOME": str(place.base / "home")}, text=True, capture_output=True, timeout=60,
        check=False,
    )  # fmt: skip
    if done.returncode == 125 or "Permission denied" in done.stderr:
        pytest.skip(f"this machine shows nothing over /etc, or not this checkout to everybody: {done.stderr[-200:]}")
    if whose == 0:
        (line,) = (each for each in done.stdout.splitlines() if "allocations.walltime" in each)
        assert line.split(maxsplit=1)[1] == "00:07:00  [admin: /etc/scalable_hpc/sites/juniper.yaml:2]"
    else:
        assert done.returncode != 0
        assert f"'/etc/scalable_hpc/sites/juniper.yaml' is not read: it belongs to '{MALLORY}'" in done.stderr


@pytest.mark.slow
@pytest.mark.slurm
@pytest.mark.parametrize("place", [pytest.param(0, id="root")], indirect=True)
def test_that_another_user_finds_no_way_into_a_run_on_a_cluster(slurm, place, mallorys):
    """The same on real Slurm, where scheduler and workers listen on a network that others reach too."""
    driver = place.begin({"provider": "slurm", "queue": "batch", "interface": slurm.interface, "poll": 1}, slurm.env)
    ports = nothing_is_open(place, mallorys)
    nothing_is_told(place)
    secrets = place.secrets()

    assert {each.address.rpartition(".")[0] for each in ports} == {slurm.head_address.rpartition(".")[0]}
    (place.base / "go").touch()
    _, err = driver.communicate(timeout=60)
    assert driver.returncode == 0, err
    nothing_is_left(place, secrets)
