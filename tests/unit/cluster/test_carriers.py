"""Laws of the book of carriers, against a plain model of it."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from scalable_hpc.cluster.carriers import CarrierBook
from scalable_hpc.model.messages import Bundle
from scalable_hpc.model.tasks import AttemptId
from tests.cluster_standin import bundle_of


class Future:
    def __init__(self):
        self.releases = 0

    def release(self):
        self.releases += 1


ADDRESSES = st.sampled_from(["w1", "w2", "w3"])


class BookMachine(RuleBasedStateMachine):
    """Whatever is sent, reported, dropped and lost, in any order, the book says what is still carried and where."""

    def __init__(self):
        super().__init__()
        self.book = CarrierBook()
        self.carried: dict[str, tuple[str, set[AttemptId]]] = {}
        self.futures: dict[str, Future] = {}
        self.ever: list[Bundle] = []

    @rule(address=ADDRESSES, size=st.integers(1, 4))
    def send(self, address, size):
        bundle = bundle_of(f"k{len(self.ever)}", *["done"] * size)
        self.ever.append(bundle)
        self.futures[bundle.key] = Future()
        self.book.add(bundle, address, self.futures[bundle.key])
        self.carried[bundle.key] = (address, {envelope.attempt for envelope in bundle.envelopes})

    @rule(data=st.data())
    def report(self, data):
        if self.ever:
            bundle = data.draw(st.sampled_from(self.ever))
            attempt = data.draw(st.sampled_from([envelope.attempt for envelope in bundle.envelopes]))
            self.book.reported(attempt)
            self.carried.get(bundle.key, ("", set()))[1].discard(attempt)

    @rule(data=st.data())
    def drop(self, data):
        if self.ever:
            key = data.draw(st.sampled_from(self.ever)).key
            dropped, expected = self.book.drop(key), self.carried.pop(key, None)
            assert (dropped and (dropped.address, dropped.unreported)) == expected

    @rule(address=ADDRESSES)
    def lose(self, address):
        self.book.drop_all(self.book.keys_at(address))
        self.carried = {key: value for key, value in self.carried.items() if value[0] != address}

    @invariant()
    def the_book_holds_what_is_carried_and_no_more(self):
        assert len(self.book) == len(self.carried)
        assert all(key in self.book for key in self.carried)
        for address in ("w1", "w2", "w3"):
            assert self.book.keys_at(address) == {key for key, value in self.carried.items() if value[0] == address}

    @invariant()
    def every_key_that_left_was_released_once(self):
        for key, future in self.futures.items():
            assert future.releases == (0 if key in self.carried else 1)


TestBook = BookMachine.TestCase
