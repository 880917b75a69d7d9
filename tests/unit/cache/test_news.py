"""Laws of what a process learns of other writers, and when it takes that in."""

from __future__ import annotations

import os
import time

import pytest

from scalable_hpc.cache import news as of_news
from scalable_hpc.cache.index import Index
from scalable_hpc.cache.news import News
from scalable_hpc.cache.records import BULK, ENTRY_SIZE, Entry, Kind, pack_entry
from scalable_hpc.cache.seal import Keys

KEYS = Keys([b"k" * 32])


def key(number):
    return number.to_bytes(32, "big")


def entries(stem, *numbers, kind=Kind.PACKED):
    seal = KEYS.seal(stem)
    return b"".join(pack_entry(Entry(kind, key(number), bytes(32), 0, 1, 0), seal) for number in numbers)


class Writers:
    """Index files in a directory, and one reader of them."""

    def __init__(self, packs):
        self.packs = packs
        self.index = Index(KEYS)
        self.news = News(packs)

    def add(self, stem, *numbers, raw=None):
        with (self.packs / f"{stem}.idx").open("ab") as file:
            file.write(entries(stem, *numbers) if raw is None else raw)

    def settle(self):
        """Let the directory be as old as one is in which nobody began for a while; it is listed then."""
        os.utime(self.packs, ns=(time.time_ns() - 10**10 + 1, time.time_ns() - 10**10 + 1))
        self.speak_of()

    def speak_of(self, *numbers):
        return self.news.speak_of([key(number) for number in numbers], self.index, ())

    def take_in(self):
        self.news.take_in(self.index, ())


@pytest.fixture
def writers(tmp_path):
    return Writers(tmp_path)


def test_that_a_key_that_somebody_has_just_published_is_news(writers):
    """Whether the file is known or not, and until it was taken in."""
    writers.add("a", 1)
    assert writers.speak_of(1)
    writers.take_in()
    assert not writers.speak_of(1)
    writers.settle()
    writers.add("a", 2)
    writers.add("b", 3)

    assert [writers.speak_of(number) for number in (1, 2, 3)] == [False, True, True]
    assert sorted(writers.index.keys()) == [key(1)]
    writers.take_in()
    assert sorted(writers.index.keys()) == [key(1), key(2), key(3)]


def test_that_who_only_publishes_lists_the_directory_once_a_second(writers, monkeypatch):
    """And asks each file how long it is, each time."""
    writers.add("a", 1)
    listed = []
    real = os.scandir
    monkeypatch.setattr(of_news.os, "scandir", lambda path: (listed.append(path), real(path))[1])
    writers.settle()
    said = [writers.speak_of(2) for _ in range(5)]
    writers.add("a", 2)

    assert (said, writers.speak_of(2), len(listed)) == ([False] * 5, True, 1)
    monkeypatch.setattr(of_news, "_LISTED_S", 0.0)
    writers.speak_of(2)
    assert len(listed) == 2


def test_that_a_directory_that_has_just_changed_is_listed_each_time(writers):
    """Two files may come within one tick of its clock."""
    for number in range(20):
        writers.add(f"w{number}", number)
        assert writers.speak_of(number)


def test_that_an_entry_is_news_when_it_is_whole(writers):
    """Half of one is not, and is not lost when the other half comes."""
    whole = entries("a", 1)
    writers.settle()
    writers.add("a", raw=whole[:50])
    assert not writers.speak_of(1)
    writers.take_in()
    writers.add("a", raw=whole[50:])
    assert writers.speak_of(1)
    writers.take_in()

    assert writers.index.keys() == [key(1)]


def test_that_what_was_not_whole_when_it_was_read_is_read_again(writers):
    """A file system may show an entry's length before its bytes."""
    writers.add("a", 1)
    writers.add("a", raw=bytes(ENTRY_SIZE))
    writers.take_in()
    path = writers.packs / "a.idx"
    path.write_bytes(path.read_bytes()[:ENTRY_SIZE] + entries("a", 2))
    writers.take_in()

    assert sorted(writers.index.keys()) == [key(1), key(2)]


def test_that_much_news_is_taken_in_whatever_it_speaks_of(writers):
    """What is kept aside has a bound."""
    writers.settle()
    writers.add("a", raw=entries("a", 1) * BULK)
    writers.add("b", raw=b"".join(entries("b", number) for number in range(2, 50)))
    assert not writers.speak_of(1000)
    writers.add("c", *range(100, 100 + BULK))

    assert writers.speak_of(10**6)


def test_that_a_long_file_is_taken_in_piece_by_piece(writers, monkeypatch):
    """Entries that are not sound are passed over wherever a piece ends, however many there are."""
    monkeypatch.setattr(of_news, "_AT_ONCE", 3 * ENTRY_SIZE)
    sound = [entries("a", number) for number in range(20)]
    for damaged in (2, 3, 5, 6, 7, 8, 9, 10, 11, 12):
        sound[damaged] = bytes(ENTRY_SIZE)
    writers.add("a", raw=b"".join(sound))
    writers.take_in()

    assert sorted(writers.index.keys()) == [key(number) for number in (0, 1, 4, *range(13, 20))]
    assert writers.index.known("a") == 20 * ENTRY_SIZE
