"""Classes that a script or a notebook defines, as arguments and results of cacheable calls in real slots."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from tests.cache_support import ROOT

_MANIFEST = """
version: 1
targets:
  local: {provider: local, capacity: {cpus: 1}}
components:
  model: {cpus: 1, memory: 1G}
"""
_DEFINED = """
import enum
from dataclasses import dataclass
from scalable_hpc import ScalableSession, cacheable

class Crop(enum.Enum):
    WHEAT = 1
    RICE = 2

@dataclass(frozen=True)
class Field:
    hectares: float
    crop: Crop

    def fertile(self):
        return self.hectares * FACTOR

@dataclass
class Yield:
    field: Field
    tonnes: float

class Model:
    def __init__(self, rate):
        self.rate = rate

    def grow(self, field):
        return Yield(field, harvest(field) * self.rate)

def harvest(field):
    return field.fertile() + field.crop.value  # tonnes

FACTOR = 2

@cacheable(return_type=Yield, field=Field)
def run(field, model, crops=(Crop.WHEAT,)):
    with open("computed.txt", "a") as file:
        file.write(f"{field.hectares:g}\\n")
    return model.grow(field)

@cacheable
def sort(cls, crops):
    with open("computed.txt", "a") as file:
        file.write("0\\n")
    return {crop: cls(1.0, crop) for crop in crops}
"""
_USED = """
futures = [client.submit(run, Field(size, Crop.RICE), Model(10)) for size in (1.0, 2.0)]
futures.append(client.submit(sort, Field, [Crop.RICE, Crop.WHEAT]))
one, two, fields = client.gather(futures)
assert [type(each) for each in (one, two, one.field)] == [Yield, Yield, Field], (one, two)
assert one.field == Field(1.0, Crop.RICE) and one.field.crop is Crop.RICE
assert fields == {Crop.RICE: Field(1.0, Crop.RICE), Crop.WHEAT: Field(1.0, Crop.WHEAT)}
print(one.tonnes, two.tonnes, run(Field(1.0, Crop.RICE), Model(10)).tonnes)
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "scalable.yaml").write_text(_MANIFEST)
    return tmp_path


def played(project, text) -> list[str]:
    """Run a driver and return what it prints, a line each."""
    (project / "driver.py").write_text(text)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(project / "driver.py")]
    done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "CacheWarning" not in done.stderr, done.stderr
    return done.stdout.split("\n")[:-1]


def computed(project) -> list[int]:
    """What was computed so far, in the functions' own words."""
    return sorted(int(line) for line in (project / "computed.txt").read_text().split())


def script(defined):
    used = textwrap.indent(_USED, "        ")
    return (
        f'{defined}\nif __name__ == "__main__":\n    with ScalableSession.from_yaml("scalable.yaml") as client:{used}'
    )


def test_that_a_scripts_classes_are_its_own_in_arguments_and_results(project):
    """Its next run finds what it computed, as values of its own classes; comments do not count, and methods do."""
    first = played(project, script(_DEFINED))
    again = played(project, script(_DEFINED.replace("# tonnes", "# tonnes, dry")))
    known = computed(project)
    edited = played(project, script(_DEFINED.replace("* FACTOR", "* FACTOR + 1")))

    assert first == again == ["40.0 60.0 40.0"]
    assert known == [0, 1, 2]
    assert edited == ["50.0 70.0 50.0"]
    assert [computed(project).count(size) for size in (1, 2)] == [2, 2]


_NOTEBOOK = """
import linecache, sys, types

class Notebook:
    '''Runs cells as IPython does: in the namespace of a __main__ without a file, each with a name of its own.'''

    def __init__(self):
        self.main = types.ModuleType("__main__")
        sys.modules["__main__"] = self.main
        self.count = 0

    def run(self, text):
        self.count += 1
        name = f"/tmp/ipykernel_4711/{self.count}.py"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        exec(compile(text, name, "exec"), self.main.__dict__)

notebook = Notebook()
"""


def notebook(*cells):
    return _NOTEBOOK + "".join(f"notebook.run({cell!r})\n" for cell in cells)


def test_that_a_notebooks_classes_are_those_of_the_cell_that_was_run_last(project):
    """Cells that are run again are the same code; an edited one is another. Results are of the classes as they are."""
    begin, end = 'client = ScalableSession.from_yaml("scalable.yaml").start()', "client.close()"
    edited = _DEFINED.replace("self.rate)", "self.rate + 1)")
    told = played(project, notebook(_DEFINED, begin, _USED, _DEFINED, _USED, end))
    known = computed(project)
    told += played(project, notebook("\n# a new kernel\n", _DEFINED, begin, _USED, edited, _USED, end))

    assert told[:3] == ["40.0 60.0 40.0"] * 3
    assert known == [0, 1, 2]
    assert told[3:] == ["41.0 61.0 41.0"]
    assert [computed(project).count(size) for size in (1, 2)] == [2, 2]
