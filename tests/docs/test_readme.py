"""Every snippet of README.md runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path) -> list[tuple[str, str]]:
    return [(match["language"], match["text"]) for match in BLOCK.finditer(page.read_text())]


def pages_with_python() -> list[Path]:
    return [page for page in PAGES if any(language == "python" for language, _ in blocks(page))]


@pytest.mark.parametrize("page", pages_with_python(), ids=lambda page: page.name)
def test_that_the_python_of_a_page_runs_with_the_manifest_of_that_page(page, tmp_path):
    """Python blocks run in order as one script, beside the page's ``scalable.yaml``."""
    for language, text in blocks(page):
        if language == "yaml" and text.startswith("# scalable.yaml"):
            (tmp_path / "scalable.yaml").write_text(text)
    script = "\n".join(text for language, text in blocks(page) if language == "python")
    (tmp_path / "page.py").write_text(f"{script}\n")

    command = [sys.executable, "page.py"]
    finished = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=120)

    assert finished.returncode == 0, finished.stderr
    for text in expected_outputs(page):
        assert text.strip() in finished.stdout


def expected_outputs(page: Path) -> list[str]:
    """Blocks marked ``output`` are what the page's Python prints."""
    return [text for language, text in blocks(page) if language == "output"]
