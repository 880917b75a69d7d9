"""Manifests and site configs in a directory of their own, read with an environment of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

from scalable_hpc.config.issues import ValidationReport
from scalable_hpc.config.manifest import load_manifest, validate_manifest
from scalable_hpc.config.resolved import ResolvedManifest

LOCAL = """
    version: 1
    project: {name: ensemble}
    targets:
      here:
        provider: local
"""


@dataclass
class Desk:
    """A project directory, a home directory, and what is exported."""

    base: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environ.setdefault("HOME", str(self.base / "home"))

    def write(self, text: str, name: str = "scalable.yaml") -> Path:
        path = self.base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n"))
        return path

    def load(
        self, text: str, target: str | None = None, overrides: Mapping[str, Any] | None = None
    ) -> ResolvedManifest:
        return load_manifest(self.write(text), target, overrides, environ=self.environ)

    def validate(self, text: str) -> ValidationReport:
        return validate_manifest(self.write(text), environ=self.environ)
