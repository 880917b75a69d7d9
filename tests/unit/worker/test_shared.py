"""Laws of the records that a slot keeps for many attempts."""

from __future__ import annotations

import pytest

from scalable_hpc.cache.serial import dumps, loads
from scalable_hpc.cache.store import Store
from scalable_hpc.cache.verify import Damaged
from scalable_hpc.model.tasks import Locator
from scalable_hpc.worker.shared import SharedRecords
from tests.worker_envelopes import key_of


def stored(root, value):
    """Publish a value and return where it lies, without its bytes."""
    place = Store(root).publish(key_of(repr(value)[:20]), dumps(value))
    return Locator(place.store, place.key, place.digest, place.size)


def remove_everything(root):
    for path in root.rglob("*"):
        if path.is_file():
            path.unlink()


@pytest.mark.parametrize("size", [10, 300_000], ids=["packed", "a file of its own"])
def test_that_a_record_is_read_once(tmp_path, size):
    """The store may be gone after that; whoever did not ask before finds nothing."""
    place = stored(tmp_path, bytes(size))
    records = SharedRecords()
    records.get(place, Store(tmp_path))
    remove_everything(tmp_path)

    assert loads(records.get(place, Store(tmp_path))) == bytes(size)
    with pytest.raises(Damaged):
        SharedRecords().get(place, Store(tmp_path))


def test_that_what_is_done_to_one_value_the_next_does_not_see(tmp_path):
    """Lists and arrays alike."""
    numpy = pytest.importorskip("numpy")
    place = stored(tmp_path, [numpy.zeros(50_000)])
    records, store = SharedRecords(), Store(tmp_path)
    first = loads(records.get(place, store))
    first[0][:] = 1
    first.append("spoilt")
    (second,) = loads(records.get(place, store))

    assert not second.any()
    second[0] = 2  # and it can be written to, as if it had been computed


def test_that_no_more_is_kept_than_allowed(tmp_path):
    """What was not asked for longest is read again; what is larger than all of it always is."""
    places = [stored(tmp_path, character * 1000) for character in (b"a", b"b")]
    huge = stored(tmp_path, b"c" * 5000)
    records, store = SharedRecords(most=1500), Store(tmp_path)
    for place in (*places, huge):
        records.get(place, store)
    remove_everything(tmp_path)

    assert loads(records.get(places[1], Store(tmp_path))) == b"b" * 1000
    for place in (places[0], huge):
        with pytest.raises(Damaged):
            records.get(place, Store(tmp_path))
