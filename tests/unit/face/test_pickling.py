"""What travels to workers."""

from __future__ import annotations

import fnmatch
import pickle
import subprocess
import sys

import pytest

from scalable_hpc.pickling import dumps

SCRIPT = """
from functools import cache, lru_cache
from scalable_hpc.pickling import dumps
import textwrap, sys

@cache
def table():
    return {"a": 1}

@lru_cache(maxsize=7)
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

def call(n):
    return table()["a"] + fib(n), table() is table(), fib.cache_parameters()["maxsize"]

sys.stdout.buffer.write(dumps((call, textwrap.dedent, lru_cache)))
"""


def test_that_cached_helpers_of_a_script_travel_by_value():
    """Another process, with another ``__main__``, can call them; their caches work, recursion too."""
    made = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True)
    opener = "import pickle, sys; print(pickle.load(sys.stdin.buffer)[0](10))"

    opened = subprocess.run([sys.executable, "-c", opener], input=made.stdout, capture_output=True, check=True)

    assert opened.stdout.decode().strip() == "(56, True, 7)"


def test_that_cached_functions_of_modules_travel_by_name():
    """As cloudpickle does with every function that can be imported."""
    data = dumps(fnmatch._compile_pattern)

    assert len(data) < 100
    assert pickle.loads(data) is fnmatch._compile_pattern


@pytest.mark.parametrize(
    "value",
    [
        ((1, "a", None), {"name": [1.5, {"b": b"c"}]}),
        {(1, 2): 3},
        [[[[[[1]]]]]],
        list(range(1000)),
        {"deep": ({"er": (1,)},)},
    ],
)
def test_that_plain_values_travel_as_they_are(value):
    """Whichever way they are pickled."""
    assert pickle.loads(dumps(value)) == value


def test_that_a_list_that_holds_itself_travels():
    """A circle is found, not followed."""
    circle = [1]
    circle.append(circle)

    back = pickle.loads(dumps(circle))

    assert (back[0], back[1] is back) == (1, True)


CLASSES = """
import enum, sys
from dataclasses import dataclass
from scalable_hpc.cache.keys import call_key
from scalable_hpc.pickling import dumps

class Crop(enum.Enum):
    RICE = 1

@dataclass
class Field:
    crop: Crop
    size: float = 1.0

class Model:
    rate = [1, 2]
    def grow(self, field: Field):
        return scaled(field.size)

def scaled(size):
    return size * FACTOR

FACTOR = 2

def run(model, field):
    return model.grow(field)

def ship():
    args = (Model(), Field(Crop.RICE))
    return dumps((run, args)).hex(), call_key(run, args, {}).hex

for change in ("pass", "Model.rate.append(3)", "FACTOR = 3", "Crop.RICE.note = 1", "Field.size = 4.0"):
    exec(change)
    print(*ship())
"""


def test_that_classes_of_a_script_are_the_same_code_where_they_are_made_anew():
    """Enums, dataclasses, annotations, class attributes: the key there is the key here, also after a change here."""
    made = subprocess.run([sys.executable, "-c", CLASSES], capture_output=True, check=True, text=True)
    opener = """
import pickle, sys
from scalable_hpc.cache.keys import call_key
for line in sys.stdin:
    function, args = pickle.loads(bytes.fromhex(line.split()[0]))
    print(call_key(function, args, {}).hex)
"""
    opened = subprocess.run(
        [sys.executable, "-c", opener], input=made.stdout, capture_output=True, check=True, text=True
    )
    keys = [line.split()[1] for line in made.stdout.splitlines()]

    assert opened.stdout.split() == keys
    assert len(set(keys)) >= 4
