"""Another user of the same machine: what they find of somebody's processes and files, and what they can do with it.

Root makes the list of targets, since the other user may not even see them; then a process of that user tries each.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

ALICE, MALLORY = 54321, 54322
NEEDS_ROOT = "only root can be two other users"

_PROBE = r'''
import json, os, signal, socket, ssl, sys

orders, told = json.load(sys.stdin), []


def tries(what, deed):
    """Note a deed that succeeded; permission denied, nothing there and no answer are what should be."""
    try:
        found = deed()
    except (OSError, ssl.SSLError):
        return
    if found or found is None:
        told.append(what if found is None else f"{what}: {found!r}")


def talks(address, port, context, words):
    with socket.create_connection((address, port), timeout=1) as raw:
        raw.settimeout(1)
        link = raw if context is None else context.wrap_socket(raw)
        if words:
            link.sendall(words)
        return link.recv(100)  # whoever is let in is greeted


def context(cert=None, key=None):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    if cert:
        made.load_cert_chain(cert, key)
    return made


HTTP = b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"
for address, port in orders["tcp"]:
    where = f"{address}:{port}"
    tries(f"{where} answers anybody", lambda: talks(address, port, None, b""))
    tries(f"{where} answers a browser", lambda: talks(address, port, None, HTTP))
    tries(f"{where} answers anybody who encrypts", lambda: talks(address, port, context(), b""))
    tries(f"{where} answers a browser that encrypts", lambda: talks(address, port, context(), HTTP))
    for cert, key in orders["certificates"]:
        tries(f"{where} lets in {cert}", lambda: talks(address, port, context(cert, key), b""))
for name in orders["unix"]:
    with socket.socket(socket.AF_UNIX) as link:
        tries(f"socket {name} takes connections", lambda: link.connect("\0" + name[1:] if name[0] == "@" else name))
for path in orders["paths"]:
    tries(f"{path} can be read", lambda: os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK)))
    if os.path.isdir(path) or path in orders["directories"]:
        planted = os.path.join(path, "planted-by-another")
        tries(f"{path} can be planted in", lambda: os.close(os.open(planted, os.O_WRONLY | os.O_CREAT)))
    else:
        tries(f"{path} can be written", lambda: os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK)))
for pid in orders["pids"]:
    tries(f"process {pid} can be signalled", lambda: os.kill(pid, 0))
    for name in ("environ", "mem", "maps"):
        tries(f"process {pid}'s {name} can be read", lambda: open(f"/proc/{pid}/{name}", "rb").read(1))
    tries(f"process {pid}'s files can be listed", lambda: os.listdir(f"/proc/{pid}/fd"))
json.dump(told, sys.stdout)
'''


_SHOW = """
mount --make-rprivate / && mount --bind "$1" /mnt && mount -t tmpfs -o mode=755 none "$2" && mkdir -p "$1" &&
mount --bind /mnt "$1" && umount /mnt || exit 125
shift 2
exec "$@"
"""
"""Where the interpreter lies in a directory that is somebody's alone: shows it there, and nothing else, to one family
of processes."""


def as_user(user: int, *words: str, umask: str = "077", group: int | None = None) -> list[str]:
    """Return the command that runs this interpreter as another user, with a umask, and in a group besides their own."""
    groups = "--clear-groups" if group is None else f"--groups={group}"
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", groups, "--"]
    command = [*become, "sh", "-c", f'umask {umask}; exec "$@"', "sh", sys.executable, *words]
    home = Path(sys.base_prefix).resolve()
    closed = [each for each in reversed(home.parents) if not each.stat().st_mode & stat.S_IXOTH]
    return ["unshare", "--mount", "sh", "-c", _SHOW, "sh", str(home), str(closed[0]), *command] if closed else command


@dataclass(frozen=True)
class Targets:
    """What another user will try."""

    tcp: Sequence[tuple[str, int]] = ()
    unix: Sequence[str] = ()
    paths: Sequence[str] = ()
    directories: Sequence[str] = ()
    pids: Sequence[int] = ()
    certificates: Sequence[tuple[str, str]] = ()
    """Pairs of files: a certificate and its key."""


def attempts(targets: Targets, *, user: int = MALLORY) -> list[str]:
    """Return all that a process of the user succeeds in; nothing is what should be."""
    done = subprocess.run(
        as_user(user, "-I", "-c", _PROBE),
        input=json.dumps(asdict(targets)), cwd="/", capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


@dataclass(frozen=True)
class Listener:
    """A socket that others may come to."""

    pid: int
    kind: str
    """``tcp``, ``udp`` or ``unix``."""
    address: str
    """Of a Unix socket its path, an abstract one's with ``@``."""
    port: int = 0


def listeners(pids: Iterable[int]) -> list[Listener]:
    """Return every socket on which these processes wait for others, each in its own network namespace.

    A process that has ended meanwhile has none.
    """
    return [each for pid in pids for each in _listeners_of(pid)]


def _listeners_of(pid: int) -> list[Listener]:
    try:
        return _listening(pid, _links_of(pid))
    except (FileNotFoundError, ProcessLookupError):  # gone, or dead and not yet collected by its parent
        return []


def _links_of(pid: int) -> list[str]:
    """Return what the open files of a process are; one that was closed meanwhile is none."""
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            links.append(str(entry.readlink()))
    return links


def _listening(pid: int, links: Iterable[str]) -> list[Listener]:
    own = {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}
    found = []
    for kind, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for row in _rows(pid, kind):
            if row[9] in own and row[3] == state:
                address, port = _address(row[1])
                found.append(Listener(pid, kind[:3], address, port))
    for row in _rows(pid, "unix"):
        if row[6] in own and int(row[3], 16) & 0x10000:
            found.append(Listener(pid, "unix", row[7] if len(row) > 7 else ""))
    return found


def _rows(pid: int, table: str) -> list[list[str]]:
    return [line.split() for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]]


def _address(text: str) -> tuple[str, int]:
    """Read the kernel's ``0100007F:1F90``: words of the host's byte order."""
    words, port = text.split(":")
    raw = b"".join(bytes.fromhex(words[at : at + 8])[::-1] for at in range(0, len(words), 8))
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw), int(port, 16)


def processes(*, user: int | None = None, naming: str | None = None) -> dict[int, str]:
    """Return pids and command lines of a user's processes, or of those whose command line or environment names it."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes()
            wanted = user is None or entry.stat().st_uid == user
            if naming is not None:
                wanted = wanted and naming.encode() in words + (entry / "environ").read_bytes()
        except OSError:
            continue
        if wanted and words:
            found[int(entry.name)] = words.replace(b"\0", b" ").decode(errors="replace")
    return found


def files_of(user: int, *roots: Path) -> list[Path]:
    """Return every file and directory of a user under the roots."""
    found = []
    for root in roots:
        for here, folders, files in os.walk(root):
            every = (Path(here, name) for name in (*folders, *files))
            found += [each for each in every if _owner(each) == user]
    return found


def _owner(path: Path) -> int | None:
    """Return whose a file or directory is; None where it is a link, or gone by now."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return None if stat.S_ISLNK(status.st_mode) else status.st_uid


def holding(paths: Iterable[Path], secrets: Mapping[str, bytes]) -> dict[str, list[str]]:
    """Return each file that holds a secret, with the names of those that it holds."""
    found = {}
    for path in paths:
        try:
            data = path.read_bytes() if path.is_file() else b""
        except FileNotFoundError:
            continue
        if names := [name for name, secret in secrets.items() if secret in data]:
            found[str(path)] = names
    return found
