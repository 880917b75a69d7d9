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
