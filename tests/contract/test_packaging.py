"""The package as users get it: what a wheel holds, and what importing it costs and touches."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INTO_THE_WHEEL = ("pyproject.toml", "README.md", "LICENSE", "scalable_hpc", "templates", "site-configs")
IMPORT_MS = 150

RENDER = """
import json, sys
from pathlib import Path
import scalable_hpc
from scalable_hpc.config.data_files import builtin_directory
from scalable_hpc.config.manifest import load_manifest
from scalable_hpc.scripts.context import ScriptContext
from scalable_hpc.scripts.render import render_worker

found = load_manifest("scalable.yaml", environ={})
script = render_worker(
    ScriptContext(
        run_id="r", allocation="a0001", job_name="scalable-r-a0001", comment="c", worker_type="w", nodes=1, slots=1,
        cpus=1, memory=None, gpus=0, walltime_s=60, output=Path("/o"), run_dir=Path("/r"), work_dir=Path("/w"),
        python=("python3",), launcher=(),
    ),
    system=found.target.provider,
)
print(json.dumps({
    "package": scalable_hpc.__file__,
    "templates": str(builtin_directory("templates")),
    "sites": str(builtin_directory("site-configs")),
    "poll_from": found.sources["target.poll"],
    "script": script,
}))
"""


def python(*arguments: str, cwd: Path, **environ: str) -> str:
    """What a fresh interpreter prints, without this checkout on its path."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    finished = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env={**env, **environ}, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of what goes into it, so that nothing is left in the checkout."""
    pytest.importorskip("hatchling", reason="hatchling is not installed: pip install -e '.[test]'")
    pytest.importorskip("build", reason="build is not installed: pip install -e '.[test]'")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in INTO_THE_WHEEL:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    python("-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source), cwd=out)
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel installed, and nothing else."""
    target = tmp_path_factory.mktemp("site")
    python("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(target), str(wheel), cwd=target)
    return target


def test_that_a_wheel_holds_every_template_and_site_config(wheel):
    """As package data, under names of ours alone."""
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"scalable_hpc/_data/{path.relative_to(ROOT).as_posix()}"
        for kind in ("templates", "site-configs")
        for path in (ROOT / kind).rglob("*")
        if path.is_file()
    }

    assert wanted <= held
    assert {name.split("/")[0] for name in held if ".dist-info/" not in name} == {"scalable_hpc"}
    assert any(name.endswith("licenses/LICENSE") for name in held)
    assert "scalable_hpc/py.typed" in held


@pytest.mark.parametrize("provider", ["local", "slurm"])
def test_that_an_installed_wheel_finds_and_renders_its_own_files(installed, tmp_path, provider):
    """Far from any checkout."""
    (tmp_path / "scalable.yaml").write_text(f"version: 1\ntargets: {{here: {{provider: {provider}}}}}\n")
    said = json.loads(python("-c", RENDER, cwd=tmp_path, PYTHONPATH=str(installed)))

    assert said["package"] == str(installed / "scalable_hpc" / "__init__.py")
    assert said["templates"] == str(installed / "scalable_hpc" / "_data" / "templates")
    assert said["sites"] == str(installed / "scalable_hpc" / "_data" / "site-configs")
    assert said["poll_from"].startswith("built-in site-configs/")
    assert said["script"].startswith("#!/bin/bash\n#")
    assert "-m scalable_hpc.worker" in said["script"]


def test_that_a_folder_of_anothers_beside_the_package_is_not_taken_for_ours(installed, tmp_path):
    """Some packages leave a ``templates`` in site-packages."""
    site = shutil.copytree(installed, tmp_path / "site")
    for kind in ("templates", "site-configs"):
        (site / kind).mkdir()
        (site / kind / "theirs.txt").touch()
    (tmp_path / "scalable.yaml").write_text("version: 1\n")
    said = json.loads(python("-c", RENDER, cwd=tmp_path, PYTHONPATH=str(site)))

    assert said["templates"] == str(site / "scalable_hpc" / "_data" / "templates")


def test_that_an_editable_install_sees_what_is_edited(tmp_path):
    """The checkout's files win over the copy that an editable install leaves in site-packages."""
    checkout, site = tmp_path / "checkout", tmp_path / "site"
    for name in ("scalable_hpc", "templates", "site-configs"):
        shutil.copytree(ROOT / name, checkout / name)
    for kind in ("templates", "site-configs"):
        shutil.copytree(ROOT / kind, site / "scalable_hpc" / "_data" / kind)
    (site / "_editable.pth").write_text(f"{checkout}\n")
    (checkout / "templates" / "partials" / "setup.sh.j2").write_text("\n# edited\n")
    (tmp_path / "scalable.yaml").write_text("version: 1\n")
    start = f"import site; site.addsitedir({str(site)!r})\n"
    said = json.loads(python("-c", start + RENDER, cwd=tmp_path, PYTHONPATH=str(checkout)))

    assert "# edited" in said["script"]
    assert said["templates"] == str(checkout / "templates")


@pytest.mark.slow
def test_that_importing_is_quick(tmp_path):
    """The median of interleaved starts, compared with a bare interpreter: less than 150 ms more."""
    clock = "import time; begin = time.perf_counter(); {}; print((time.perf_counter() - begin) * 1000)"
    environ = {"PYTHONPATH": str(ROOT)}
    python("-c", "import scalable_hpc", cwd=tmp_path, **environ)  # writes the bytecode
    times = [float(python("-c", clock.format("import scalable_hpc"), cwd=tmp_path, **environ)) for _ in range(5)]

    assert statistics.median(times) < IMPORT_MS


def test_that_importing_loads_nothing_heavy(tmp_path):
    """Dask, pydantic, numpy and their like come when a session starts; the public names do not change that."""
    heavy = ["dask", "dask_jobqueue", "distributed", "jinja2", "numpy", "pandas", "pydantic", "rich", "yaml"]
    ask = f"import sys, scalable_hpc; dir(scalable_hpc); print([name for name in {heavy} if name in sys.modules])"

    assert python("-c", ask, cwd=tmp_path, PYTHONPATH=str(ROOT)).strip() == "[]"


def test_that_importing_writes_nothing_and_leaves_signals_alone(tmp_path):
    """No file in the home directory or the current one, no handler taken, no thread started."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    ask = (
        "import signal, threading\n"
        "handlers = lambda: [signal.getsignal(number) for number in signal.valid_signals()]\n"
        "before = handlers()\n"
        "import scalable_hpc\n"
        "from scalable_hpc import ScalableSession, cacheable\n"
        "print(handlers() == before, threading.active_count())\n"
    )
    environ = {"PYTHONPATH": str(ROOT), "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}

    assert python("-c", ask, cwd=here, **environ).split() == ["True", "1"]
    assert list(home.rglob("*")) == []
    assert list(here.rglob("*")) == []
