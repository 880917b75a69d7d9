"""Values that were put: what they can be had from again, and that they are not kept alive for it."""

from __future__ import annotations

import gc
import weakref

import pytest

from scalable_hpc.cache.serial import dumps
from scalable_hpc.results import Stores, key_of_value


class Tracer:
    """Tells by its death that what held it is gone."""


def put(stores: Stores, root, value) -> tuple[str, str]:
    data = dumps(value)
    key = key_of_value(data)
    stores.at(str(root)).publish(key, data)
    stores.remember(key, value, data)
    return str(root), key


def lose(root) -> None:
    for blob in (root / "v1" / "blobs").glob("*/*"):
        blob.unlink()


@pytest.mark.parametrize("make", [list, tuple, set, lambda ints: dict.fromkeys(ints, 1.5)])
def test_that_a_large_container_is_put_again_while_somebody_has_it(tmp_path, make):
    """Unchanged; after that there is nothing to be had."""
    stores = Stores()
    value = make(range(100_000))
    where = put(stores, tmp_path, value)
    stores.let_go_of_values()
    lose(tmp_path)

    assert stores.confirm(*where) is not None

    lose(tmp_path)
    del value
    stores.let_go_of_values()
    assert stores.confirm(*where) is None
    stores.close()


def test_that_a_container_that_was_changed_is_another_value(tmp_path):
    """It is not taken for what was put."""
    stores = Stores()
    value = list(range(100_000))
    where = put(stores, tmp_path, value)
    lose(tmp_path)
    value[0] = 7

    assert stores.confirm(*where) is None
    stores.close()


def test_that_a_container_that_nobody_has_any_more_is_freed(tmp_path):
    """Also one that was never anybody's but ours."""
    stores = Stores()
    tracer = Tracer()
    put(stores, tmp_path, [0] * 100_000)
    value = [tracer, *range(100_000)]
    put(stores, tmp_path, value)
    gone = weakref.ref(tracer)
    del tracer
    stores.let_go_of_values()
    gc.collect()
    assert gone() is not None
    del value

    stores.let_go_of_values()

    assert gone() is None
    stores.close()
