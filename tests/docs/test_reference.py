"""What the reference pages list is what the code has: no key, option, cause or exit code is missing or invented."""

from __future__ import annotations

import inspect
import re

import pytest

from scalable_hpc import cacheable, errors
from scalable_hpc.cache.spec import CacheControl
from scalable_hpc.call import Options
from scalable_hpc.config import schema, site_schema
from scalable_hpc.errors import ScalableError, TaskError
from scalable_hpc.faults.judge import ROWS
from scalable_hpc.gathering import Batch, BatchFailed
from scalable_hpc.session import ScalableSession
from tests.pages import ROOT, Page, all_pages


def page(name: str) -> Page:
    return Page(ROOT / "docs" / name)


def rows(name: str, *, columns: int) -> list[list[str]]:
    """The rows of every table of a page that has so many columns."""
    lines = [line for line in page(name).text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if len(row) == columns]


def named(text: str) -> set[str]:
    """Every word in backticks, the last part of a dotted one too."""
    spans = re.findall(r"`([^`\n]+)`", text)
    return {part for span in spans for word in re.findall(r"[\w.]+", span) for part in (word, *word.split("."))}


@pytest.mark.parametrize(
    "model",
    [
        schema.Manifest, schema.Project, schema.Target, schema.Allocations, schema.Capacity,
        schema.Commands, schema.Component, schema.Task, schema.Retry,
    ],
    ids=lambda model: model.__name__,
)  # fmt: skip
def test_that_the_manifest_page_names_every_key(model):
    """Every key that a manifest or a site config may have is in docs/manifest.md."""
    missing = set(model.model_fields) - named(page("manifest.md").text)

    assert missing == set()


@pytest.mark.parametrize(
    "model",
    [
        site_schema.SiteFacts, site_schema.Partition, site_schema.Bin, site_schema.Accounts, site_schema.Detection,
        site_schema.Trusted, site_schema.Source,
    ],
    ids=lambda model: model.__name__,
)  # fmt: skip
def test_that_the_page_of_sites_names_every_fact(model):
    """Every key that only a site config may have is in docs/sites.md."""
    missing = set(model.model_fields) - named(page("sites.md").text)

    assert missing == set()


def test_that_the_manifest_page_invents_no_key():
    """Every first column of its tables of keys names keys, variables or kinds of values that there are."""
    models = [each for each in vars(schema).values() if isinstance(each, type) and issubclass(each, schema.Part)]
    known = {name for model in models for name in model.model_fields} | {"queue"}
    listed = {key for row in rows("manifest.md", columns=3) for key in re.findall(r"`\.?([\w.]+)`", row[0])}
    unknown = {key for key in listed if not set(key.split(".")) <= known}

    assert unknown == set()


def test_that_the_table_of_causes_is_the_judges_own():
    """Names, order and charges of docs/failures.md are those of ``faults.judge.ROWS``."""
    shown = [(row[0], row[3]) for row in rows("failures.md", columns=4) if row[3] in ("yes", "no")]

    assert shown == [(row.name, "yes" if row.charged else "no") for row in ROWS]


def test_that_every_exit_code_is_listed():
    """Each class with a code of its own stands in the table, in the line of that code."""
    listed = {
        name: int(row[0])
        for row in rows("failures.md", columns=3)
        if row[0].isdigit()
        for name in re.findall(r"`(\w+)`", row[1])
    }
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, ScalableError)]
    own = {cls.__name__: cls.exit_code for cls in (*classes, BatchFailed) if "exit_code" in vars(cls)}

    assert listed == own


def test_that_every_error_of_a_task_is_explained():
    """Whatever ``result()`` may raise in a task's stead is in docs/failures.md."""
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, TaskError)]

    assert {cls.__name__ for cls in classes} - named(page("failures.md").text) == set()


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        pytest.param("python.md", set(Options.__dataclass_fields__), id="options of submit"),
        pytest.param("python.md", {n for n in vars(Batch) if not n.startswith("_")}, id="Batch"),
        pytest.param(
            "python.md", {n for n in vars(ScalableSession) if not n.startswith("_")} - {"target_name"}, id="session"
        ),
        pytest.param("cache.md", {n for n in vars(CacheControl) if not n.startswith("_")}, id="function.cache"),
        pytest.param(
            "cache.md", set(inspect.signature(cacheable).parameters) - {"arg_types"}, id="options of cacheable"
        ),
    ],
)
def test_that_a_page_names_every_public_name(name, wanted):
    """What a class or function offers is on its page."""
    assert wanted - named(page(name).text) == set()


def test_that_every_verb_of_the_command_is_on_a_page():
    """Each verb has a file of its own, and is told about somewhere."""
    files = (ROOT / "scalable_hpc" / "cli").glob("*.py")
    verbs = {file.stem for file in files if "def act(" in file.read_text()}
    told = {verb for each in all_pages() for verb in re.findall(r"scalable-hpc (\w+)", each.text)}

    assert verbs
    assert verbs - told == set()
