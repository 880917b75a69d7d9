"""What qsub makes of a command line and a script: a request, or PBS's own error text and exit code."""

from __future__ import annotations

import os
import re
import shlex
import stat
from dataclasses import dataclass, field
from typing import Any

from tests.standins.pbs_depend import OTHERS, read_depend

USAGE = """\
usage: qsub [-a date_time] [-A account_string] [-c interval]
\t[-C directive_prefix] [-e path] [-f ] [-h ] [-I [-X]] [-j oe|eo] [-J X-Y[:Z]]
\t[-k keep] [-l resource_list] [-m mail_options] [-M user_list]
\t[-N jobname] [-o path] [-p priority] [-P project] [-q queue] [-r y|n]
\t[-R o|e|oe] [-S path] [-u user_list] [-W otherattributes=value...]
\t[-v variable_list] [-V ] [-z] [script | -- command [arg1 ...]]
       qsub --version
"""
WITH_VALUE = "aAcCejJklmMNopPqrRSuvW"
FLAGS = "fhIVXz"
EVERYWHERE = frozenset(
    {"walltime", "cput", "pcput", "mem", "vmem", "pmem", "pvmem", "ncpus", "ngpus", "nodect", "nodes", "select",
     "place", "mpiprocs", "ompthreads", "host", "vnode", "arch", "software", "file", "nice", "mpparch"}
)  # fmt: skip
OF_CHUNKS = frozenset({"mem", "vmem", "ncpus", "ngpus", "mpiprocs", "ompthreads", "host", "vnode", "arch"})
SIZES, COUNTS = frozenset({"mem", "vmem", "pmem", "pvmem", "file"}), frozenset({"ncpus", "ngpus", "mpiprocs"})
PLACE = re.compile(r"(free|pack|scatter|vscatter)?(:?(excl|exclhost|shared))?(:?group=[\w.-]+)?")
ATTRIBUTES = {
    "umask",
    "depend",
    "block",
    "group_list",
    "stagein",
    "stageout",
    "sandbox",
    "run_count",
    "no_stdio_sockets",
}


class Refused(Exception):
    """PBS's answer to what it does not take; ``stale``: its text may be that of the last refusal."""

    def __init__(self, rc: int, stderr: str, *, stale: bool = False) -> None:
        super().__init__(stderr)
        self.rc, self.stderr, self.stale = rc, stderr, stale


@dataclass
class Asked:
    """What a submission asks for."""

    options: dict[str, str] = field(default_factory=dict)
    resources: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    script: str | None = None
    name: str = "STDIN"
    command: list[str] = field(default_factory=list)

    @property
    def walltime_s(self) -> float | None:
        text = self.resources.get("walltime")
        return None if text is None else seconds_of(text)


def read_request(request: dict[str, Any], custom: tuple[str, ...]) -> Asked:
    """Return what is asked for.

    Raises:
        Refused: qsub itself, before it asks the server, or the server's reading of a value.
    """
    asked = Asked()
    line, rest, bad = _parse(request["argv"])
    if bad:
        raise Refused(2, bad + USAGE)
    directives: dict[str, str] = {}
    resources: list[str] = []
    asked.options, on_line = _split_l(line)
    if rest and rest[0] == "--":
        asked.command = rest[1:]
    else:
        asked.script = _read_script(rest, request)
        asked.name = os.path.basename(rest[0])[:230] if rest else "STDIN"
        prefix = asked.options.get("C", request["env"].get("PBS_DPREFIX", "#PBS"))
        for text in _directives(asked.script, prefix):
            found, words, bad = _parse(text.split() if text.count('"') % 2 else shlex.split(text))
            bad += "".join(
                f"qsub: illegal -{letter} value\n" for letter, value in found if not _is_legal(letter, value)
            )
            if bad or words:
                raise Refused(1, f"{bad}qsub: directive error: {text} \n")
            more, ours = _split_l(found)
            directives.update(more)
            resources += ours
    asked.options = {**directives, **asked.options}
    asked.resources = {**_resources(resources), **_resources(on_line)}
    asked.name = asked.options.get("N", asked.name)
    asked.attributes = _attributes(asked.options.get("W", ""))
    _check_options(asked.options)
    _check_resources(asked.resources, EVERYWHERE | set(custom), OF_CHUNKS | set(custom))
    return asked


def _parse(argv: list[str]) -> tuple[list[tuple[str, str]], list[str], str]:
    """Split as getopt does: options, what follows them, and a complaint about each unknown letter."""
    found: list[tuple[str, str]] = []
    bad: list[str] = []
    words = list(argv)
    while words and words[0].startswith("-") and words[0] not in ("-", "--"):
        letters = words.pop(0)[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in FLAGS:
                found.append((letter, ""))
            elif letter in WITH_VALUE:
                if not letters and not words:
                    bad.append(f"qsub: option requires an argument -- '{letter}'\n")
                    break
                found.append((letter, letters or words.pop(0)))
                break
            else:
                bad.append(f"qsub: invalid option -- '{letter}'\n")
    return found, words, "".join(bad)


def _split_l(found: list[tuple[str, str]]) -> tuple[dict[str, str], list[str]]:
    return {letter: value for letter, value in found if letter != "l"}, [
        text for letter, text in found if letter == "l"
    ]


def _read_script(rest: list[str], request: dict[str, Any]) -> str:
    if not rest:
        return request.get("stdin") or ""
    path = os.path.join(request["cwd"], rest[0])
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Refused(1, "qsub: script not a file\n")
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as script:
            text = script.read()
    except OSError:
        raise Refused(1, "qsub: script file:: No such file or directory\n") from None
    if "\r\n" in text:
        raise Refused(1, "qsub: script contains cr, lf\n")
    return text


def _directives(script: str, prefix: str) -> list[str]:
    """Those before the first command; what comes later is a comment, silently."""
    found = []
    for line in script.splitlines():
        if prefix and line.startswith(prefix):
            found.append(line[len(prefix) :].strip())
        elif line.strip() and not line.lstrip().startswith(("#", ":")):
            break
    return [text for text in found if text]


def _resources(lists: list[str]) -> dict[str, str]:
    """``a=1,b=2``; a select or place statement may hold commas of its own nowhere; the last of a name wins."""
    found: dict[str, str] = {}
    for one in lists:
        for part in one.split(","):
            name, equals, value = part.strip().partition("=")
            if not name:
                raise Refused(2, "qsub: illegal -l value\n" + USAGE)
            found[name] = value if equals else ""
    return found


def _attributes(text: str) -> dict[str, str]:
    found = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if name == "depend" and value.partition(":")[0] in OTHERS:
            raise Refused(3, "qsub: the stand-in knows after, afterok, afternotok and afterany only\n")
        if not equals or (name == "depend" and read_depend(value) is None):
            raise Refused(2, "qsub: illegal -W value\n" + USAGE)
        found[name] = value
    return found


def _check_options(options: dict[str, str]) -> None:
    name = options.get("N", "")
    if len(name) > 230:
        raise Refused(2, "qsub: Job name is too long \n")
    for letter, value in options.items():
        if not _is_legal(letter, value):
            raise Refused(2, f"qsub: illegal -{letter} value\n" + USAGE)
    if "J" in options:
        raise Refused(3, "qsub: the stand-in runs no arrays\n")
    if "u" in options:
        raise Refused(175, "qsub: Bad UID for job execution\n")
    if "I" in options or "X" in options:
        raise Refused(1, "qsub: standard input and output must be a terminal for interactive job submission\n")
    if set(_attributes(options.get("W", ""))) - ATTRIBUTES:
        raise Refused(154, "qsub: Error (15002) submitting job\n", stale=True)


def _is_legal(letter: str, value: str) -> bool:
    rules = {
        "N": r"[^\s/]+", "r": "[yn]", "j": "oe|eo|n", "J": r"\d+-\d+(:\d+)?(%\d+)?", "k": "n|[oe]{1,2}d?",
        "R": "[oe]+|n", "p": r"[+-]?\d{1,4}", "a": r"[\d.]+",
    }  # fmt: skip
    if letter in rules and not re.fullmatch(rules[letter], value):
        return False
    return letter != "p" or abs(int(value)) <= 1024


def _check_resources(resources: dict[str, str], known: frozenset[str] | set[str], of_chunks: set[str]) -> None:
    if "select" in resources and "nodes" in resources:
        raise Refused(6, "qsub: Cannot be used with select or place: nodes\n")
    if "select" in resources or "place" in resources:
        for name in ("ncpus", "mem", "vmem", "ngpus", "nodect"):
            if name in resources:
                text = f'"-lresource=" cannot be used with "select" or "place", resource is: {name}'
                raise Refused(5, f"qsub: {text}\n")
    for name, value in resources.items():
        if name not in known:
            raise Refused(187, f"qsub: Unknown resource Resource_List.{name}\n")
        if not _is_good(name, value):
            raise Refused(166, f"qsub: Illegal attribute or resource value Resource_List.{name}\n")
    for count, chunk in chunks_of(resources):
        if count < 1:
            raise Refused(166, "qsub: Illegal attribute or resource value\n")
        for name, value in chunk.items():
            if name not in of_chunks:
                raise Refused(187, f"qsub: Unknown resource: {name}\n")
            if not _is_good(name, value):
                raise Refused(166, f"qsub: Illegal attribute or resource value select.{name}\n")


def _is_good(name: str, value: str) -> bool:
    if name in SIZES:
        return kilobytes_of(value) is not None
    if name in COUNTS:
        return value.isdigit()
    if name in ("walltime", "cput"):
        return seconds_of(value) is not None
    if name == "place":
        return bool(value) and PLACE.fullmatch(value) is not None
    return bool(value)


def chunks_of(resources: dict[str, str]) -> list[tuple[int, dict[str, str]]]:
    """Count and resources of each chunk; those asked for in other ways are turned into one."""
    if "nodes" in resources:
        count, _, ppn = resources["nodes"].partition(":ppn=")
        return [(int(count) if count.isdigit() else 0, {"ncpus": ppn or "1", "mpiprocs": ppn or "1"})]
    if "select" not in resources:
        return [(1, {"ncpus": "1", **{k: v for k, v in resources.items() if k in ("ncpus", "mem", "ngpus")}})]
    found = []
    for part in resources["select"].split("+"):
        first, *pairs = part.split(":")
        if "=" in first:
            first, pairs = "1", [first, *pairs]
        count = int(first) if first.isdigit() else 0
        found.append((count, {"ncpus": "1", **dict(pair.partition("=")[::2] for pair in pairs)}))
    return found


def seconds_of(text: str) -> float | None:
    """``HH:MM:SS``, ``MM:SS`` or seconds; fractions are dropped."""
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+)(?:\.\d+)?", text)
    if match is None:
        return None
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(hours * 3600 + minutes * 60 + seconds)


def kilobytes_of(text: str) -> int | None:
    """A whole number of b, kb, mb, gb or tb; none: bytes."""
    match = re.fullmatch(r"(\d+)([kmgt]?)[bw]?", text, re.IGNORECASE)
    if match is None:
        return None
    return -(-int(match[1]) * {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}[match[2].lower()] // 1024)
