"""Laws of making results durable."""

from __future__ import annotations

from scalable_hpc.cache.serial import dumps
from scalable_hpc.cache.store import Store
from scalable_hpc.errors import StoreError
from scalable_hpc.model.tasks import Locator
from scalable_hpc.worker.publisher import Publisher, Result
from tests.worker_envelopes import Envelopes


def test_that_each_result_goes_to_the_store_its_envelope_names(tmp_path):
    """Small and staged ones alike; other processes find them there and only there."""
    envelope = Envelopes(tmp_path / "one")
    small, large = envelope(len, "a"), envelope(len, "b")
    elsewhere = envelope(len, "c", store=str(tmp_path / "other"))
    with Store(tmp_path / "one") as store:
        staged = store.stage(dumps(bytes(100_000)))

    places = Publisher().publish([Result(small, dumps(1)), Result(large, staged), Result(elsewhere, dumps(2))])

    with Store(tmp_path / "one") as store:
        assert (store.fetch(small.key), store.fetch(large.key)) == (1, bytes(100_000))
    assert {places[one.attempt].store for one in (small, large)} == {str(tmp_path / "one")}
    assert places[elsewhere.attempt].store == str(tmp_path / "other")
    assert places[small.attempt].inline == dumps(1)


def test_that_one_bad_store_does_not_spoil_the_others(tmp_path):
    """What could not be stored is told by its exception."""
    (tmp_path / "file").touch()
    envelope = Envelopes(tmp_path / "store")
    good, bad = envelope(len, "a"), envelope(len, "a", store=str(tmp_path / "file"))

    places = Publisher().publish([Result(bad, dumps(1)), Result(good, dumps(2))])

    assert isinstance(places[bad.attempt], StoreError)
    assert isinstance(places[good.attempt], Locator)


def test_that_what_others_have_published_is_found(tmp_path):
    """Also since the last look; what is to be computed anew is not looked for."""
    envelope = Envelopes(tmp_path)
    known, unknown, renewed = envelope(len, "a"), envelope(len, "b"), envelope(len, "c", refresh=True)
    publisher = Publisher()
    before = publisher.lookup([known, unknown, renewed])
    with Store(tmp_path) as store:
        for one in (known, renewed):
            store.publish(one.key, dumps(1))

    found = publisher.lookup([unknown, known, renewed])

    assert before == {}
    assert list(found) == [known.attempt]


def test_that_what_was_taken_back_just_now_is_not_found(tmp_path):
    """A driver forgets what has outlived its ttl and sends the call at once: no worker knows an older answer."""
    envelope = Envelopes(tmp_path)
    one = envelope(len, "a")
    publisher = Publisher()
    with Store(tmp_path) as driver:
        driver.publish(one.key, dumps(1))
        known = publisher.lookup([one])
        driver.forget(one.key)

        assert (list(known), publisher.lookup([one])) == ([one.attempt], {})
