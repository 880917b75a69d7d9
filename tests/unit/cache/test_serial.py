"""Laws of results as bytes."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalable_hpc.cache.serial import ALIGNMENT, Unreadable, Unstorable, dumps, loads
from tests.cache_support import ROOT, run_python

results = st.recursive(
    st.one_of(st.none(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner), st.tuples(inner, inner)),
    max_leaves=10,
)


@settings(max_examples=100)
@given(results)
def test_that_a_result_comes_back_as_it_was(value):
    """Whatever is stored is returned, out of bytes and out of a buffer."""
    record = dumps(value)

    assert loads(record) == loads(memoryview(bytearray(record))) == value


def test_that_arrays_come_back_writable_and_whole():
    """Arrays of any layout are the same in value and type, and may be altered like computed ones."""
    value = {
        "a": np.arange(12.0).reshape(3, 4),
        "b": np.asfortranarray(np.eye(3)),
        "c": np.array([], "i4"),
        "d": [np.arange(5)],
    }

    back = loads(dumps(value))
    back["a"][0, 0] = 7.0

    assert (back["a"][0, 0], back["b"].flags.f_contiguous, back["c"].dtype) == (7.0, True, np.dtype("i4"))
    assert np.array_equal(back["d"][0], value["d"][0])


def test_that_arrays_lie_on_top_of_a_private_mapping():
    """Over writable memory nothing is copied, and every array starts on an aligned address."""
    record = bytearray(dumps([np.arange(1000.0), np.arange(7, dtype="i1"), np.arange(3.0)]))
    start = np.frombuffer(record, "u1").__array_interface__["data"][0]

    arrays = loads(memoryview(record))
    places = [array.__array_interface__["data"][0] - start for array in arrays]

    assert all(0 < place < len(record) and place % ALIGNMENT == 0 for place in places)


def test_that_what_plain_pickle_refuses_goes_by_value():
    """Lambdas and local classes are results too."""

    class Local:
        value = 5

    assert loads(dumps(lambda x: x + 1))(1) == 2
    assert loads(dumps(Local())).value == 5


def test_that_what_nothing_can_pickle_is_refused():
    """A generator is no result that could be kept."""
    with pytest.raises(Unstorable, match="generator"):
        dumps(n for n in ())


@pytest.mark.parametrize("cut", [0, 3, 15, 16, 30, -1])
def test_that_a_cut_record_is_refused(cut):
    """A record that is not whole is unreadable, never a wrong value."""
    record = dumps({"a": np.arange(3)})

    with pytest.raises(Unreadable):
        loads(record[:cut])


def test_that_bytes_of_others_are_refused():
    """A bare pickle is not a record."""
    import pickle

    with pytest.raises(Unreadable, match="starts with"):
        loads(pickle.dumps({"a": 1}) + bytes(50))


SCRIPT = """
    import enum, sys
    from dataclasses import dataclass
    from scalable_hpc.cache.serial import dumps, loads

    class Kind(enum.Enum):
        FULL = 1

    @dataclass
    class Outcome:
        value: int
        kind: Kind = Kind.FULL

    if sys.argv[1] == "write":
        open(sys.argv[2], "wb").write(dumps([Outcome(5)]))
    else:
        outcome = loads(open(sys.argv[2], "rb").read())[0]
        print(outcome == Outcome(5), isinstance(outcome, Outcome), outcome.kind is Kind.FULL)
"""


def test_that_classes_of_a_script_find_their_own_home(tmp_path):
    """What a script stored, its next run gets as its own classes; a worker, which has none of them, as copies."""
    script, record = tmp_path / "driver.py", tmp_path / "record"
    script.write_text(textwrap.dedent(SCRIPT))
    program = (
        "import sys; from scalable_hpc.cache.serial import loads; print(loads(open(sys.argv[1], 'rb').read())[0].value)"
    )

    def run(verb):
        command = [sys.executable, script, verb, record]
        return subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True).stdout

    run("write")

    assert run("read").split() == ["True", "True", "True"]
    assert run_python(program, record) == "5"


def test_that_a_workers_copy_goes_home_as_the_scripts_own_class(tmp_path):
    """A result whose class a worker only has by value is the script's own class again where the script reads it."""
    script, record = tmp_path / "driver.py", tmp_path / "record"
    script.write_text(textwrap.dedent(SCRIPT))
    subprocess.run([sys.executable, script, "write", record], env={"PYTHONPATH": str(ROOT)}, check=True)
    program = """
        import sys
        from scalable_hpc.cache.serial import dumps, loads
        raw = open(sys.argv[1], "rb").read()
        open(sys.argv[1], "wb").write(dumps(loads(raw)))
    """
    run_python(program, record)
    command = [sys.executable, script, "read", record]
    printed = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True).stdout

    assert printed.split() == ["True", "True", "True"]


def test_that_a_class_that_is_gone_makes_a_record_unreadable(tmp_path):
    """A result whose module cannot be imported here is told apart from a damaged one."""
    (tmp_path / "gone.py").write_text("class Outcome: pass\n")
    program = """
        import sys
        sys.path[:0] = [sys.argv[1]]
        import gone
        from scalable_hpc.cache.serial import dumps
        sys.stdout.write(dumps(gone.Outcome()).hex())
    """
    record = bytes.fromhex(run_python(program, tmp_path))

    with pytest.raises(Unreadable, match="gone"):
        loads(record)
