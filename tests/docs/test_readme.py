"""Every snippet of README.md and of docs/ runs as it stands, and prints what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from scalable_hpc.config.manifest import validate_manifest
from tests.pages import (
    Command,
    Page,
    all_pages,
    as_a_page_shows_it,
    pattern_of,
    run,
    run_command,
)

PAGES = all_pages()
LANGUAGES = {"jinja", "python", "output", "yaml", "console", "bash", "text"}
WRONG = "wrong.yaml"
"""A page's manifest of this name shows what is said about a wrong one."""


@dataclass(frozen=True)
class Lived:
    """A page that was followed from top to bottom."""

    directory: Path
    script: subprocess.CompletedProcess[str] | None
    said: dict[Command, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def live(tmp_path_factory):
    """Follow a page once: write its files, run its Python, then its commands, all in one directory."""
    known: dict[Path, Lived] = {}

    def follow(page: Page) -> Lived:
        if page.path not in known:
            directory = tmp_path_factory.mktemp(page.path.stem)
            page.lay_out(directory)
            script = run((sys.executable, "page.py"), directory, timeout=120) if page.script else None
            said = {command: run_command(command, directory) for command in page.commands}
            known[page.path] = Lived(directory, script, said)
        return known[page.path]

    return follow


def parametrized(pages: list[Page]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.path.name)


@parametrized([page for page in PAGES if page.script])
def test_that_the_python_of_a_page_runs_with_the_manifest_of_that_page(page, live):
    """Python blocks run in order as one script, beside the page's files, and print what the page shows."""
    lived = live(page)

    assert lived.script.returncode == 0, lived.script.stdout
    printed = as_a_page_shows_it(lived.script.stdout, lived.directory)
    shown = [as_a_page_shows_it(text, lived.directory) for text in page.outputs]
    in_order = "".join(rf"(?:.*\n)*?{pattern_of(text)}" for text in shown)
    assert re.match(in_order, printed), printed


@parametrized([page for page in PAGES if page.commands])
def test_that_commands_print_what_a_page_shows(page, live):
    """Our own commands in console blocks are run, and end with the exit code that the page shows (0 if none)."""
    lived = live(page)
    wrong = []
    for command, finished in lived.said.items():
        printed = as_a_page_shows_it(finished.stdout, lived.directory)
        shown = as_a_page_shows_it(command.shown, lived.directory)
        if not re.fullmatch(pattern_of(shown), printed) or finished.returncode != (command.exit_code or 0):
            wrong.append(f"{page.path.name}:{command.line}: {command.words} [{finished.returncode}]\n{printed}")

    assert wrong == [], "\n".join(wrong)


@parametrized([page for page in PAGES if page.of("yaml")])
def test_that_the_manifests_of_a_page_are_right(page, tmp_path, monkeypatch):
    """Whole manifests and pieces of them pass validation without an error; ``wrong.yaml`` does not."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))
    page.lay_out(tmp_path)
    manifests = [block for block in page.of("yaml") if not (block.file or "").startswith("site-configs/")]
    said = {}
    for number, block in enumerate(manifests):
        name = block.file or f"piece-{number}.yaml"
        if block.file is None:
            text = block.text if "version" in yaml.safe_load(block.text) else f"version: 1\n{block.text}"
            (tmp_path / name).write_text(text)
        errors = validate_manifest(tmp_path / name).errors
        if bool(errors) != (name == WRONG):
            said[f"{page.path.name}:{block.line}"] = [str(error) for error in errors]

    assert said == {}


@parametrized([page for page in PAGES if page.of("bash")])
def test_that_shell_snippets_can_be_read_by_a_shell(page):
    """``bash -n`` has nothing to say about them."""
    complaints = [
        finished.stderr
        for block in page.of("bash")
        if (finished := subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)).returncode
    ]

    assert complaints == []


@parametrized(PAGES)
def test_that_links_lead_somewhere(page):
    """A link inside the project names a file that is there, and a heading that is in it."""
    dead = []
    for link in page.links:
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.path.parent / name).resolve() if name else page.path
        if not target.exists() or (anchor and anchor not in Page(target).anchors):
            dead.append(link)

    assert dead == []


@parametrized(PAGES)
def test_that_every_block_says_what_it_is(page):
    """A block in a language that nothing here runs or checks would rot."""
    unknown = [f"{page.path.name}:{block.line}: {block.language!r}" for block in page.blocks]

    assert [each for each, block in zip(unknown, page.blocks, strict=True) if block.language not in LANGUAGES] == []
