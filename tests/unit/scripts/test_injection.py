"""Whatever a manifest says in whichever field: its job script runs nothing but what it would run anyway, or is refused.

The fields are those of the schema itself, so that a new one is tried as soon as it is there.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scalable_hpc.chain.driver_script import DriverJob, render_driver
from scalable_hpc.config.manifest import load_manifest
from scalable_hpc.config.resolved import ResolvedManifest
from scalable_hpc.config.schema import Manifest
from scalable_hpc.config.site import places
from scalable_hpc.config.site_schema import Site
from scalable_hpc.errors import ScalableError, TemplateError
from scalable_hpc.planning import make_plan
from scalable_hpc.runs import RunDirectory

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
            value: Any = {} if last in MAPPINGS else "x"
            here[last] = {**here.get(last, {}), text: here.get(last, {}).get(way[-1] if way else "", value)}
        elif self.shape == "name":  # of an entry that is there
            here[last] = {text: next(iter(here.get(last, {"x": {}}).values()))}
        else:
            here[last] = {"text": text, "list": [text], "value": {"NAME": text}}[self.shape]


MAPPINGS = {"partitions", "qoses", "constraints"}
"""Whose keys are names of sections."""
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
RUNTIMES = ["apptainer", "podman-hpc", "shifter", "charliecloud", "singularity"]
STUBS = ("apptainer", "singularity", "podman-hpc", "shifter", "ch-run", "srun", "pbsdsh", "python3", "mkdir", "module",
    "conda", "true")  # fmt: skip


LINK = DriverJob(1, 3600, 1, None, None, "python3", "/work/ensemble", 60, after="4711")
"""A job of a driver that is a chain of them."""


def link_script(manifest: ResolvedManifest, job: DriverJob = LINK) -> str:
    return render_driver(manifest, RunDirectory(manifest.runs_root / "20261122T084512Z-ab12cd"), job)


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
        runtime = RUNTIMES[len(text) % len(RUNTIMES)]
        component = {"cpus": 1, **({"image": "docker://crops/model:7", "runtime": runtime} if boxed else {})}
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
        drivers = () if provider == "local" else (link_script(manifest),)
        return [*make_plan(manifest).scripts.values(), *drivers]

    def scripts_of_site(self, spot: Spot, text: str) -> list[str]:
        """Return the job scripts of a machine whose preset says the text in one place.

        Raises:
            ScalableError: it was refused.
        """
        preset: dict[str, Any] = {"batch": "slurm"}
        spot.put(preset, text.replace(CANARY, str(self.canary)))
        folder = self.base / "etc" / "sites"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "evil.yaml").write_text(json.dumps(preset))
        file = self.base / "scalable.yaml"
        target = {"provider": "slurm", "site": "evil", "python": ["python3"]}
        file.write_text(json.dumps({"version": 1, "targets": {"here": target}}))
        environ = {"HOME": str(self.base), "SCALABLE_HPC_SITE_DIR": str(self.base / "etc")}
        manifest = load_manifest(file, environ=environ, site_places=places(self.base, environ))
        return [*make_plan(manifest).scripts.values(), link_script(manifest)]

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
        self.are_harmless(made, f"{spot} says {text!r}")

    def are_harmless(self, scripts: Iterable[str], said: str) -> None:
        """Read and run scripts; nothing but what they would do anyway may come of it."""
        for script in scripts:
            read = subprocess.run(["/bin/bash", "-n"], input=script.encode(), capture_output=True, check=False)
            assert read.returncode == 0, f"{said}, and bash cannot read:\n{script}"
            self.runs(script)
            assert not self.canary.exists(), f"{said} and becomes:\n{script}"
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


@pytest.mark.parametrize("option", ["partition", "directory", "python", "after"])
def test_that_no_option_of_a_driver_becomes_code(bench, option):
    """What ``scalable-hpc submit`` is told, and where and by whom it was called."""
    for number, hostile in enumerate(HOSTILE):
        text = hostile.replace(CANARY, str(bench.canary))
        bench.scripts(PROVIDERS[number % 2], None, "/cache", by_variable=False, boxed=False)
        with suppress(TemplateError):  # with the line of the template
            made = link_script(load_manifest(bench.base / "scalable.yaml"), replace(LINK, **{option: text}))
            bench.are_harmless([made], f"{option} is {text!r}")


SITE_SCHEMA = Site.model_json_schema()
SITE_SPOTS = [each for each in sorted(set(spots(SITE_SCHEMA, SITE_SCHEMA)), key=str) if not each.is_code]


@pytest.mark.parametrize(("number", "spot"), list(enumerate(SITE_SPOTS)), ids=str)
def test_that_no_field_of_a_machines_preset_becomes_code(bench, number, spot):
    """Its owner is trusted with code where code is meant to be, and makes mistakes elsewhere like everybody."""
    for text in HOSTILE[number % 4 :: 4]:
        refusal, made = "", []
        try:
            made = bench.scripts_of_site(spot, text)
        except ScalableError as err:
            refusal = str(err)
        placed = "evil.yaml" in refusal or re.search(r"[.]sh[.]j2:\d+: ", refusal)
        assert made or placed, f"{spot} says {text!r} and is refused without a place: {refusal}"
        bench.are_harmless(made, f"{spot} says {text!r}")
