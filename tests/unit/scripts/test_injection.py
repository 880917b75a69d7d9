"""Whatever a manifest says in whichever field: its job script runs nothing but what it would run anyway, or is refused.

The fields are those of the schema itself, so that a new one is tried as soon as it is there.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scalable_hpc.config.manifest import load_manifest
from scalable_hpc.config.schema import Manifest
from scalable_hpc.errors import ScalableError
from scalable_hpc.planning import make_plan

CANARY = "/CANARY/"
"""Stands for the path of a file that only injected code would make."""
HOSTILE = [
    f"$(>{CANARY})", f"`>{CANARY}`", f"';>{CANARY};'", f'";>{CANARY};"', f"\n>{CANARY}\n",
    f"x\n#SBATCH --wrap={CANARY}", f"a;>{CANARY}", f"a\r>{CANARY}", f"a\u2028>{CANARY}\x85", f"a\x00>{CANARY}",
    f"\\';>{CANARY};\\'",
    f"/a b/$(>{CANARY})", f"{{{{ self }}}}>{CANARY}", f"--wrap=>{CANARY}",
    f"a=$(>{CANARY}):/x", f"${{x:=$(>{CANARY})}}",
]  # fmt: skip
ATOMS = ["'", '"', "`", "$(", ")", "\n", ";", " ", "\\", "-", "/", "a", "=", ":", ">", CANARY, "\u2028", "\r", "#", "{"]
PROVIDERS = ["slurm", "pbs", "local"]
CODE = {"setup"}
"""Fields that are shell code by their meaning: what they say is run, what a variable in them says is not."""
VARIABLES = ["SCALABLE_HPC_CACHE_DIR", "SCALABLE_HPC_RUNS_DIR"]


@dataclass(frozen=True)
class Spot:
    """A place in a manifest where text can stand."""

    path: tuple[str, ...]
    shape: str
    """``text``, ``list``, ``value`` of a mapping, or ``key`` of one."""

    def __str__(self) -> str:
        return f"{'.'.join(self.path)} ({self.shape})"

    @property
    def is_code(self) -> bool:
        return self.path[-1] in CODE

    def put(self, tree: dict[str, Any], text: str) -> None:
        *way, last = self.path
        here = tree
        for step in way:
            here = here.setdefault(step, {})
        if self.shape == "key":
            here[last] = {**here.get(last, {}), text: here.get(last, {}).get(way[-1], "x")}
        elif self.shape == "name":  # of an entry that is there
            here[last] = {text: next(iter(here.get(last, {"x": {}}).values()))}
        else:
            here[last] = {"text": text, "list": [text], "value": {"NAME": text}}[self.shape]


SAMPLES = {"targets": "here", "components": "work", "tasks": "job"}


def spots(schema: Mapping[str, Any], whole: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[Spot]:
    """Walk a JSON Schema down to everything that may be text."""
    for key in ("anyOf", "allOf"):
        for each in schema.get(key, ()):
            yield from spots(each, whole, path)
    if "$ref" in schema:
        yield from spots(whole["$defs"][schema["$ref"].rpartition("/")[2]], whole, path)
    kinds = schema.get("type", ())
    if "string" in kinds and path:
        yield Spot(path, "text")
    if kinds == "array":
        yield Spot(path, "list")
    for name, each in schema.get("properties", {}).items():
        if name not in {"version", "provider", "overlays"}:
            yield from spots(each, whole, (*path, name))
    inner = schema.get("additionalProperties")
    if isinstance(inner, dict):
        if path[-1] in SAMPLES:
            yield Spot(path, "name")
            yield from spots(inner, whole, (*path, SAMPLES[path[-1]]))
        else:
            yield from (Spot(path, "key"), Spot(path, "value"))


SCHEMA = Manifest.model_json_schema()
SPOTS = sorted(set(spots(SCHEMA, SCHEMA)), key=str)
STUBS = ("apptainer", "srun", "pbsdsh", "python3", "mkdir", "module", "conda")


class Bench:
    """Where manifests are read and their scripts run, with a file that must never be there."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.canary = base / "pwned"
        self.bin = base / "bin"
        self.bin.mkdir()
        for name in STUBS:
            (self.bin / name).write_text("#!/bin/bash\nexit 0\n")
            (self.bin / name).chmod(0o755)

    def scripts(self, provider: str, spot: Spot | None, text: str, *, by_variable: bool, boxed: bool) -> list[str]:
        """Return the job scripts of a manifest that says the text in one place.

        Raises:
            ScalableError: it was refused.
        """
        text = text.replace(CANARY, str(self.canary))
        component = {"cpus": 1, **({"image": "docker://crops/model:7"} if boxed else {})}
        tree: dict[str, Any] = {
            "version": 1,
            "targets": {"here": {"provider": provider, "containers": "auto", "python": ["python3"]}},
            "components": {"work": component},
            "tasks": {"job": {"component": "work"}},
        }
        environ = {"HOME": str(self.base), "EVIL": text}
        if spot is None:
            environ |= dict.fromkeys(VARIABLES, text)
        else:
            spot.put(tree, "${EVIL}" if by_variable else text)
        file = self.base / "scalable.yaml"
        file.write_text(json.dumps(tree, indent=1))
        manifest = load_manifest(file, environ=environ)
        return list(make_plan(manifest).scripts.values())

    def runs(self, script: str) -> None:
        """Run a script where nothing but stubs can be called."""
        subprocess.run(
            ["/bin/bash"], input=script.encode(), env={"PATH": str(self.bin)}, cwd=self.base,
            capture_output=True, timeout=30, check=False,
        )  # fmt: skip

    def tries(self, provider: str, spot: Spot | None, text: str, *, by_variable: bool, boxed: bool) -> None:
        """Check the law for one text in one place."""
        try:
            made = self.scripts(provider, spot, text, by_variable=by_variable, boxed=boxed)
        except ScalableError as err:
            refusal, made = str(err), []
            placed = spot is None or re.search(r":\d+: |worker.sh.j2: ", refusal)
        else:
            refusal, placed = "", True
        assert placed, f"{spot} says {text!r} and is refused without a place: {refusal}"
        for script in made:
            self.runs(script)
            assert not self.canary.exists(), f"{spot} says {text!r} and becomes:\n{script}"
            asked = [line for line in script.splitlines() if line.startswith(("#SBATCH", "#PBS", "#LOCAL"))]
            assert script.splitlines()[1 : 1 + len(asked)] == asked, "options stand at the top and nowhere else"
            assert not [line for line in asked if "wrap" in line.split("=")[0]], asked


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("injection"))


def test_that_the_schema_was_walked():
    """Fields that are known to reach a script are among those that are tried."""
    said = set(map(str, SPOTS))
    for name in ("account (text)", "modules (list)", "env (value)", "env (key)", "setup (list)", "work_dir (text)"):
        assert f"targets.here.{name}" in said
    for name in ("mounts (key)", "mounts (value)", "image (text)", "preload_script (text)"):
        assert f"components.work.{name}" in said
    assert "components (name)" in said


def test_that_the_bench_sees_injected_code(bench):
    """Code where it is meant to be is run, and the canary tells: otherwise no test here proves anything."""
    spot = next(one for one in SPOTS if one.is_code and one.shape == "list")
    for script in bench.scripts("local", spot, f"true >{CANARY}", by_variable=False, boxed=False):
        bench.runs(script)
    assert bench.canary.exists()
    bench.canary.unlink()


@pytest.mark.parametrize("spot", [None, *SPOTS], ids=str)
def test_that_no_field_becomes_code(bench, spot):
    """What is known to hurt, in every field; in fields that are code, by way of a variable."""
    for number, text in enumerate(HOSTILE):
        by_variable = spot is not None and (spot.is_code or number % 5 == 0)
        bench.tries(PROVIDERS[number % 3], spot, text, by_variable=by_variable, boxed=number % 2 == 0)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([None, *SPOTS]),
    st.lists(st.sampled_from(ATOMS) | st.characters(), min_size=1, max_size=8).map("".join),
    st.sampled_from(PROVIDERS),
    st.booleans(),
    st.booleans(),
)
def test_that_no_text_becomes_code(bench, spot, text, provider, by_variable, boxed):
    """Quotes, line breaks and substitutions in any order."""
    bench.tries(provider, spot, text, by_variable=by_variable or (spot is not None and spot.is_code), boxed=boxed)
