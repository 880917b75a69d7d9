"""Laws of records that are written as they are made: nothing large is put together in memory first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.cache.markers import DirType, FileType
from scalable_hpc.cache.record import Record, Unstorable
from scalable_hpc.cache.serial import dumps, loads, record_of
from scalable_hpc.cache.store import Store
from scalable_hpc.errors import StoreError
from tests.cache_support import run_python

KEY = "11" * 32


@given(st.binary(max_size=300), st.lists(st.binary(max_size=300), max_size=5))
def test_that_a_record_is_as_long_as_it_says(body, parts):
    """What its pieces come to is what was said before any of them was written."""
    record = Record(body, [memoryview(part) for part in parts])

    assert len(record.join()) == len(record) == sum(memoryview(chunk).nbytes for chunk in record.chunks())


def test_that_large_pieces_are_not_copied():
    """An array's own memory is what is written."""
    array = np.arange(1000)
    pieces = list(record_of({"array": array}).chunks())
    array[7] = -1

    assert np.frombuffer(pieces[-1], array.dtype)[7] == -1


def test_that_a_stream_and_a_piece_are_one_record(tmp_path):
    """Who reads finds the same bytes, however they were written."""
    (tmp_path / "file").write_bytes(bytes(range(256)) * 1000)
    value = {"array": np.arange(50_000), "file": FileType(tmp_path / "file")}
    with Store(tmp_path / "cache") as store:
        locator = store.publish(KEY, record_of(value))

        assert bytes(store.read(locator)) == dumps(value)


@pytest.mark.parametrize("kind", [FileType, DirType])
def test_that_a_file_that_changes_while_it_is_kept_is_not_kept(tmp_path, kind):
    """Half of the old and half of the new is no content: the store refuses it and stays as it was."""
    path = tmp_path / "d" / "file"
    path.parent.mkdir()
    path.write_bytes(bytes(200_000))
    record = record_of(kind(path if kind is FileType else path.parent))
    path.write_bytes(bytes(100_000) + b"x" * 100_000)

    with pytest.raises(Unstorable, match="was changed while it was being kept"):
        record.join()
    with Store(tmp_path / "cache") as store:
        with pytest.raises(StoreError, match="was changed while it was being kept"):
            store.publish(KEY, record)
        assert store.lookup(KEY) is None
        assert not list((tmp_path / "cache").glob("v1/aside/*")) + list((tmp_path / "cache").glob("v1/blobs/*/*"))


def test_that_keeping_a_large_result_takes_no_memory(tmp_path):
    """A file of 256 MB and an array of 256 MB are kept in less than a tenth of that, beside themselves."""
    program = """
        import sys
        from pathlib import Path
        import numpy as np
        from scalable_hpc.cache.markers import FileType
        from scalable_hpc.cache.serial import loads, record_of
        from scalable_hpc.cache.store import Store
        size = 256 << 20
        with open(sys.argv[1] + "/large", "wb") as file:
            for _ in range(size >> 20):
                file.write(bytes(1 << 20))
        array = np.ones(size, "u1")
        with Store(sys.argv[1] + "/cache", durability="close") as store:
            store.publish("22" * 32, record_of(np.ones(100_000)))
            def peak():
                lines = Path("/proc/self/status").read_text().splitlines()
                return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) << 10
            before = peak()
            store.publish("11" * 32, record_of(array))
            store.publish("33" * 32, record_of(FileType(sys.argv[1] + "/large")))
            print((peak() - before) * 10 < size)
    """

    assert run_python(program, tmp_path) == "True"


def test_that_empty_files_and_arrays_are_kept(tmp_path):
    """A buffer of no bytes is a buffer."""
    (tmp_path / "empty").write_bytes(b"")
    value = loads(dumps([FileType(tmp_path / "empty"), np.zeros(0), {"x": 1}]))

    assert (str(value[0].path), value[1].shape, value[2]) == (str(tmp_path / "empty"), (0,), {"x": 1})
