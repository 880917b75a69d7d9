"""Pages of the documentation as data: their blocks, the files and the script in them, the commands that they show.

A block whose first line is ``# some/file.yaml`` (or .sh, .py, .toml, .j2) is that file. All other Python blocks are one
script. A ``console`` block shows commands after ``$`` and what they print; a line ``...`` stands for any lines.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIRECTORY, INTERPRETER, RUN = "/home/me/ensemble", "/home/me/venv/bin/python", "20261122T084512Z-ab12cd"
"""What pages show in place of the directory, the interpreter and the run of whoever reads them."""

_BLOCK = re.compile(r"^```(?P<language>\w*)[^\S\n]*\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"(?:#!.*\n)?# (?P<name>[\w./-]+\.(?:yaml|sh|py|toml|j2))\n")
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ (?P<text>.+)$", re.MULTILINE)
_ANY_LINES = "..."
_OURS = "scalable-hpc"


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """The file that the block is, by its first line."""
        match = _FILE.match(self.text)
        return match["name"] if match else None


@dataclass(frozen=True)
class Command:
    """A command of ours, and what the page says that it prints."""

    words: tuple[str, ...]
    shown: str
    exit_code: int | None
    """As a following ``$ echo $?`` shows it."""
    line: int


@dataclass(frozen=True)
class Page:
    path: Path

    @functools.cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @functools.cached_property
    def blocks(self) -> list[Block]:
        found = _BLOCK.finditer(self.text)
        return [Block(match["language"], match["text"], self.text.count("\n", 0, match.start()) + 1) for match in found]

    def of(self, *languages: str) -> list[Block]:
        return [block for block in self.blocks if block.language in languages]

    @property
    def files(self) -> list[Block]:
        return [block for block in self.blocks if block.file is not None]

    @property
    def script(self) -> str:
        """The page's Python, as one script."""
        return "\n".join(block.text for block in self.of("python") if block.file is None)

    @property
    def outputs(self) -> list[str]:
        """What that script prints."""
        return [block.text for block in self.of("output")]

    @property
    def commands(self) -> list[Command]:
        return [command for block in self.of("console") for command in _commands(block)]

    @property
    def links(self) -> list[str]:
        prose = _BLOCK.sub("", self.text)
        return [match["target"] for match in _LINK.finditer(prose)]

    @property
    def anchors(self) -> set[str]:
        """The headings, as GitHub and its like name them."""
        prose = _BLOCK.sub("", self.text)
        headings = [match["text"].lower() for match in _HEADING.finditer(prose)]
        return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}

    def lay_out(self, directory: Path) -> None:
        """Write the page's files, and its script as ``page.py``."""
        for block in self.files:
            path = directory / str(block.file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        (directory / "page.py").write_text(f"{self.script}\n", encoding="utf-8")


def all_pages() -> list[Page]:
    """README and every page of docs/."""
    return [Page(ROOT / "README.md"), *(Page(path) for path in sorted((ROOT / "docs").rglob("*.md")))]


def _commands(block: Block) -> Iterator[Command]:
    prompts = [part.partition("\n") for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]]
    for number, (typed, _, shown) in enumerate(prompts):
        if typed.split()[0] == _OURS:
            after = prompts[number + 1] if number + 1 < len(prompts) else ("", "", "")
            exit_code = int(after[2]) if after[0] == "echo $?" else None
            yield Command(tuple(shlex.split(typed)), shown, exit_code, block.line)


def environment(directory: Path) -> dict[str, str]:
    """A user's environment with nothing set that a page does not speak of."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SCALABLE_")}
    return {
        **kept,
        "XDG_CONFIG_HOME": str(directory / "no-config"),
        "COLUMNS": "120",
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",  # what goes to stderr stands where it was said
    }


def run(words: tuple[str, ...], directory: Path, *, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a command with everything that it says in ``stdout``."""
    return subprocess.run(
        words,
        cwd=directory,
        env=environment(directory),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=timeout,
        check=False,
    )


def run_command(command: Command, directory: Path) -> subprocess.CompletedProcess[str]:
    installed = Path(sys.executable).with_name(_OURS)
    ours = (str(installed),) if installed.exists() else (sys.executable, "-m", "scalable_hpc.cli")
    return run((*ours, *command.words[1:]), directory, timeout=60)


def as_a_page_shows_it(text: str, directory: Path) -> str:
    """Put the page's names in place of this machine's, and one word for every run and every span of time."""
    interpreter = re.escape(str(Path(sys.executable).parent)) + r"/python[\d.]*"
    for pattern, shown in (
        (r"^ *export PYTHONPATH=.*\n", ""),  # only where the tests' checkout is not installed
        (rf"(?<==){re.escape(str(ROOT))}$", "''"),
        (rf"^ *--bind={re.escape(str(ROOT))}:.*\n", ""),
        (re.escape(str(directory.resolve())), DIRECTORY),
        (interpreter, INTERPRETER),
        (r"\d{8}T\d{6}Z-[0-9a-f]{6}", RUN),
        (rf"\b{re.escape(socket.gethostname())}\b", "node01"),
        (r"\b\d+(\.\d+)? s\b", "1.0 s"),
        (r"\b\d+(\.\d+)?m?s\b", "0.1s"),
        (r"^  [\d:-]+ from first to last", "  00:00:10 from first to last"),
        (r", \S+ node-hours$", ", 0.1 node-hours"),
        (r"[ \t]+$", ""),
    ):
        text = re.sub(pattern, shown, text, flags=re.MULTILINE)
    return text


def pattern_of(shown: str) -> str:
    """A pattern for what a page shows: any lines in place of ``...``."""
    lines = shown.strip("\n").splitlines()
    return "".join(r"(?:.*\n)*?" if line.strip() == _ANY_LINES else f"{re.escape(line)}\n" for line in lines)
