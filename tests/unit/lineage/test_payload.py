"""The payload pack on a real disk."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scalable_hpc.errors import JournalError
from scalable_hpc.lineage.payload import HEADER, PayloadPack
from tests.unit.lineage.support import payload

BLOBS = [b"", b"one", b"two" * 1000, bytes(range(256)) * 40]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "payloads.pack"


def filled(path, blobs=BLOBS):
    pack = PayloadPack(path, fsync=False)
    kept = [pack.add(payload(blob)) for blob in blobs]
    pack.close()
    return kept


def test_that_bytes_come_back_by_offset(path):
    """A later process reads what this one packed, from what the journal says of it."""
    kept = filled(path)
    pack = PayloadPack(path)

    assert [pack.read(one) for one in kept] == BLOBS
    assert all(one.inline is None for one in kept)
    pack.close()


def test_that_bytes_can_be_read_before_they_are_committed(path):
    """A task may be sent in the turn that it was submitted in."""
    pack = PayloadPack(path)
    kept = pack.add(payload(b"fresh"))

    assert pack.read(kept) == b"fresh"
    assert path.read_bytes() == HEADER
    pack.close()


def test_that_the_same_content_is_stored_once(path):
    """A function that a thousand tasks share takes its size once, across drivers too."""
    function = payload(b"f" * 5000)
    pack = PayloadPack(path)
    first = [pack.add(function) for _ in range(1000)]
    pack.close()
    again = PayloadPack(path)
    second = again.add(function)
    again.close()

    assert {*first, second} == {second}
    assert path.stat().st_size < 6000


def test_that_a_tail_torn_at_any_byte_is_cut_and_reported(path):
    """Wherever a crash cut the file, whole frames survive and writing goes on."""
    kept = filled(path, [b"alpha", b"beta"])
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        pack = PayloadPack(path, fsync=False)
        survivors = [one for one in kept if one.offset + one.size <= size]
        added = pack.add(payload(b"gamma"))
        pack.commit()

        assert [pack.read(one) for one in survivors] == [b"alpha", b"beta"][: len(survivors)]
        assert pack.read(added) == b"gamma"
        assert pack.torn_bytes > 0 or size in (0, len(HEADER)) or survivors
        pack.close()


def test_that_zeros_after_a_crash_of_the_machine_are_a_torn_tail(path):
    """A file that had grown and whose data never arrived ends in zeros."""
    kept = filled(path)
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(10_000))
    pack = PayloadPack(path)

    assert pack.torn_bytes == 10_000
    assert [pack.read(one) for one in kept] == BLOBS
    pack.close()


def test_that_damaged_bytes_are_never_handed_out(path):
    """A flipped bit is an error that names the place."""
    kept = filled(path)
    data = bytearray(path.read_bytes())
    data[kept[2].offset + 100] ^= 1
    path.write_bytes(data)
    pack = PayloadPack(path)

    with pytest.raises(JournalError, match=str(kept[2].offset)):
        pack.read(kept[2])
    assert pack.read(kept[1]) == b"one"
    pack.close()


def test_that_damaged_content_is_packed_anew_when_it_is_seen_again(path):
    """What an earlier driver left damaged does not stand in for the sound bytes in hand."""
    kept = filled(path, [b"the function"])
    data = bytearray(path.read_bytes())
    data[kept[0].offset] ^= 1
    path.write_bytes(data)
    pack = PayloadPack(path)
    again = pack.add(payload(b"the function"))
    pack.commit()

    assert pack.read(again) == b"the function"
    pack.close()


def test_that_a_damaged_frame_is_not_taken_for_a_torn_tail(path):
    """Frames behind damage must not be cut."""
    filled(path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"SHPP", b"SHXX", 1))

    with pytest.raises(JournalError, match=f"byte {len(HEADER)}"):
        PayloadPack(path)


def test_that_another_kind_of_file_is_refused(path):
    """What is no pack is not appended to."""
    path.write_bytes(b"#!/bin/sh\necho precious; exit 0\n")

    with pytest.raises(JournalError, match="not a payload pack"):
        PayloadPack(path)
    assert path.read_bytes().startswith(b"#!/bin/sh")


def test_that_a_payload_that_was_packed_before_is_left_alone(path):
    """A resumed task's payload lies where it lies."""
    pack = PayloadPack(path)
    kept = pack.add(payload(b"x"))

    assert pack.add(kept) is kept
    with pytest.raises(JournalError, match="in no pack"):
        pack.read(replace(kept, offset=None))
    pack.close()
