"""Laws of the canonical encoding of values."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import math
import operator
import pathlib
import re
import struct
import threading
import uuid
import zoneinfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalable_hpc.cache.encode import Unencodable, digest
from scalable_hpc.cache.markers import DirType, FileType
from scalable_hpc.model.tasks import ResultRef
from tests.cache_support import DigestProcess, by_name, run_python

OSLO = zoneinfo.ZoneInfo("Europe/Oslo")


class Color(enum.Enum):
    RED = 1
    GREEN = 2


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Config:
    name: str
    rate: float = 0.5


@dataclasses.dataclass
class OtherConfig:
    name: str
    rate: float = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: int


Point = collections.namedtuple("Point", "x y")  # noqa: PYI024 - the kind without a class statement
Pair = collections.namedtuple("Pair", "x y")  # noqa: PYI024


class Plain:
    def __init__(self, **fields):
        self.__dict__.update(fields)


class Text(str):
    __slots__ = ()


def key(value):
    return digest(value, by_name)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-2, 2),
    st.floats(),
    st.sampled_from([0.0, -0.0, 1.0, 2.0]),
    st.complex_numbers(),
    st.text(max_size=5),
    st.sampled_from(["", "1", "1.0", "True", "None"]),
    st.binary(max_size=5),
    st.sampled_from([b"1", b""]),
    st.dates(),
    st.datetimes(),
    st.datetimes(timezones=st.just(OSLO)),
    st.times(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.uuids(),
    st.sampled_from([pathlib.PurePosixPath("1"), Color.RED, Color.GREEN, Level.LOW, range(1), ...]),
)
hashables = st.recursive(
    scalars.filter(lambda value: value == value),  # noqa: PLR0124 - NaN is no usable key
    lambda inner: st.one_of(st.tuples(inner), st.tuples(inner, inner), st.frozensets(inner, max_size=3)),
    max_leaves=4,
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.sets(hashables, max_size=4),
        st.frozensets(hashables, max_size=4),
        st.dictionaries(hashables, inner, max_size=4),
        st.builds(Config, inner, inner),
        st.builds(Slotted, inner),
        st.builds(Point, inner, inner),
        st.builds(Plain, a=inner),
        st.lists(st.integers(-3, 3), min_size=15, max_size=18),
        st.lists(st.sampled_from(["a", "b", "ab", ""]), min_size=15, max_size=18),
    ),
    max_leaves=8,
)


def same(a, b):  # noqa: PLR0911 - one line for each kind
    """Say whether two values have the same types and values, all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    if isinstance(a, complex):
        return same((a.real, a.imag), (b.real, b.imag))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(any(same(k, m) and same(a[k], b[m]) for m in b) for k in a)
    if isinstance(a, set | frozenset):
        return len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
    if isinstance(a, Config):
        return same((a.name, a.rate), (b.name, b.rate))
    if isinstance(a, Slotted):
        return same(a.x, b.x)
    if isinstance(a, Plain):
        return same(a.__dict__, b.__dict__)
    if isinstance(a, dt.datetime | dt.time):
        return a == b and a.fold == b.fold and a.tzinfo == b.tzinfo
    if isinstance(a, decimal.Decimal):
        return a.as_tuple() == b.as_tuple()
    return a == b


def rebuilt(value):
    """Make the same value anew, with sets and dicts filled in the opposite order."""
    if type(value) in {list, tuple}:
        return type(value)(map(rebuilt, value))
    if isinstance(value, dict):
        return {rebuilt(k): rebuilt(value[k]) for k in reversed(list(value))}
    if type(value) in {set, frozenset}:
        return type(value)(map(rebuilt, reversed(list(value))))
    if isinstance(value, Config):
        return Config(rebuilt(value.name), rebuilt(value.rate))
    return value


@settings(max_examples=150, deadline=None)
@given(values, values)
def test_that_keys_are_equal_exactly_when_types_and_values_are(a, b):
    """Two values share a digest if and only if they have the same types and values."""
    assert (key(a) == key(b)) == same(a, b)


@settings(max_examples=100, deadline=None)
@given(values)
def test_that_order_of_sets_and_dicts_does_not_matter(value):
    """A value made anew, its sets and dicts filled in another order, has the same digest."""
    assert key(rebuilt(value)) == key(value)


@pytest.fixture(scope="module")
def elsewhere():
    """Two other processes with other hash seeds."""
    processes = [DigestProcess(1), DigestProcess(20261122)]
    yield processes
    for process in processes:
        process.close()


pickled_values = st.recursive(
    scalars.filter(lambda value: not isinstance(value, Color | Level)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.sets(hashables.filter(lambda value: "Color" not in repr(value) and "Level" not in repr(value)), max_size=4),
        st.dictionaries(st.text(max_size=3), inner, max_size=4),
    ),
    max_leaves=10,
)


@settings(max_examples=60, deadline=None)
@given(value=pickled_values)
def test_that_keys_are_the_same_in_processes_with_other_hash_seeds(elsewhere, value):
    """A digest does not depend on the process, nor on its salt."""
    assert {process.digest(value) for process in elsewhere} == {key(value)}


def test_that_nothing_that_is_equal_in_python_only_shares_a_key():
    """Values that compare equal, print alike or hash alike, yet differ, have digests of their own."""
    family = [
        1, 1.0, True, "1", b"1", bytearray(b"1"), 1 + 0j, decimal.Decimal(1), decimal.Decimal("1.0"),
        fractions.Fraction(1), Level.LOW, Color.RED, (1,), [1], {1}, frozenset({1}), {1: 1}, Text("1"),
        -1, -2, 2**61, 2**61 - 1, 2**63, -(2**63), 2**64, 0, 0.0, -0.0, False, None, "None", "", b"", (), [], {}, set(),
        [[]], [()], [None], ["a", "b"], ["ab"], ["a", ["b"]], [["a"], "b"], ("a", "b"), {"a": "b"}, Point(1, 2),
        Pair(1, 2), (1, 2), Config("a"), OtherConfig("a"), Plain(name="a", rate=0.5), collections.OrderedDict(a=1),
        collections.OrderedDict(b=1, a=2), collections.OrderedDict([("a", 2), ("b", 1)]), collections.Counter("a"),
        collections.defaultdict(int), collections.defaultdict(list), collections.deque([1]),
        collections.deque([1], maxlen=3), pathlib.PurePosixPath("a"), "a", "b'a'", b"a", dt.date(2026, 1, 1),
        dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc), dt.datetime(2026, 1, 1, tzinfo=OSLO),  # noqa: DTZ001 - a naive time is what is told apart
        dt.timedelta(1), dt.timedelta(seconds=1), OSLO, dt.timezone.utc, dt.timezone(dt.timedelta(hours=1)),
        uuid.UUID(int=1), re.compile("a"), re.compile("a", re.IGNORECASE), operator.itemgetter(1), slice(1), range(1),
        range(1, 2), functools.partial(max, 1), functools.partial(max, 2), functools.partial(min, 1), max, int,
        list[int],
        str.lower, "a".lower, math.nan, math.inf, -math.inf, memoryview(b"1"), ..., NotImplemented,
    ]  # fmt: skip

    digests = [key(value) for value in family]

    assert len(set(digests)) == len(family)


def test_that_a_long_list_of_one_type_is_told_from_its_neighbours():
    """Lists that are encoded as one buffer differ by type, value and length, and from tuples."""
    numbers = list(range(100))
    family = [
        numbers, [float(n) for n in numbers], [str(n) for n in numbers], tuple(numbers), [*numbers, 2**70],
        [*numbers, 100], numbers[:-1], [bool(n) for n in numbers], [True, *numbers[1:]], ["a"] * 100, ["a"] * 101,
        ["", "aa"] * 50, ["aa", ""] * 50,
    ]  # fmt: skip

    assert len({key(value) for value in family}) == len(family)


def test_that_large_buffers_count_by_every_byte():
    """Buffers that enter by their digest differ when one byte does, and from that digest itself."""
    large = bytes(100_000)
    other = large[:-1] + b"\1"

    assert len({key(value) for value in (large, other, bytearray(large), large[:-1], large.decode())}) == 5


def test_that_recursive_structures_end():
    """A list within itself has a digest, and not that of the list above it."""
    inner: list = []
    inner.append(inner)
    outer: list = [[]]
    outer[0].append(outer)
    plain: dict = {}
    plain["self"] = plain

    assert len({key(inner), key(outer), key(plain), key([[]])}) == 4


def test_that_a_structure_too_deep_is_refused_not_fatal():
    """Nesting beyond Python's recursion limit is unencodable."""
    deep: list = []
    for _ in range(100_000):
        deep = [deep]

    with pytest.raises(Unencodable, match="nested too deeply"):
        key(deep)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (threading.Lock(), ""),
        ({"model": [1, threading.Lock()]}, "['model'][1]"),
        ((n for n in ()), ""),
        (Config(name=threading.Lock()), ".state['name']"),
        ({threading.Lock()}, " an element"),
        (object(), ""),
        (FileType("/no/such/file"), ""),
    ],
)
def test_that_what_has_no_encoding_is_named_with_its_place(value, where):
    """A value that cannot be encoded raises ``Unencodable``, which says which type and where."""
    with pytest.raises(Unencodable) as problem:
        key(value)

    assert problem.value.where == where


def test_that_an_object_that_raises_when_looked_at_is_unencodable():
    """Whatever a strange object raises becomes ``Unencodable``."""

    class Strange:
        def __reduce_ex__(self, protocol):
            raise ZeroDivisionError

    with pytest.raises(Unencodable, match="Strange"):
        key(Strange())


def test_that_a_compiled_function_counts_by_what_was_compiled():
    """A compiler's own description of a function names another object in every process: its source function counts."""

    class Compiled:
        def __init__(self, function):
            self.py_func = function
            self.token = object()

    assert key(Compiled(same)) == key(Compiled(same)) != key(Compiled(rebuilt))


def test_that_an_opaque_wrapper_counts_by_what_it_wraps():
    """A callable that cannot be taken apart and says what it wraps is that function."""

    class Opaque:
        def __init__(self, function):
            self.__wrapped__ = function
            self.lock = threading.Lock()

    assert key(Opaque(same)) == key(Opaque(same)) != key(Opaque(rebuilt))


def test_that_a_result_to_come_counts_by_its_lineage_key():
    """References to another task's result are equal when its lineage is, whatever the task's number."""
    one, again, other = ResultRef("t-1", "a" * 64), ResultRef("t-2", "a" * 64), ResultRef("t-1", "b" * 64)

    assert (key([one]) == key([again]), key([one]) == key([other])) == (True, False)


def test_that_a_file_counts_by_its_content_alone(tmp_path):
    """A renamed copy is the same input; a changed byte is another; the path's text is something else."""
    a, b, c = tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "c.csv"
    a.write_bytes(b"x" * 10_000_000)
    b.write_bytes(b"x" * 10_000_000)
    c.write_bytes(b"x" * 9_999_999 + b"y")

    assert key(FileType(a)) == key(FileType(str(b)))
    assert len({key(FileType(a)), key(FileType(c)), key(a), key(str(a))}) == 4


def test_that_a_directory_counts_by_names_and_contents_below_it(tmp_path):
    """Trees are equal when names and bytes below them are; what stands in a name never runs into content."""
    trees = [{"a": "bX"}, {"ab": "X"}, {"a/b": "X"}, {"a": "", "b": "X"}, {"a": "bX", "e/": None}, {"b": "bX"}]
    for number, tree in enumerate([*trees, trees[0]]):
        for name, text in tree.items():
            path = tmp_path / str(number) / name
            (path if text is None else path.parent).mkdir(parents=True, exist_ok=True)
            if text is not None:
                path.write_text(text)

    digests = [key(DirType(tmp_path / str(number))) for number in range(len(trees) + 1)]

    assert digests[-1] == digests[0]
    assert len(set(digests)) == len(trees)


def test_that_a_directory_that_links_to_itself_ends(tmp_path):
    """A symbolic link back up the tree is recorded, not followed for ever."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "up").symlink_to(tmp_path)

    assert len(key(DirType(tmp_path))) == 32


def test_that_a_pipe_is_no_file(tmp_path):
    """What has no content of its own is unencodable, and is not waited for."""
    import os

    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(Unencodable, match="not a regular file"):
        key(FileType(tmp_path / "pipe"))


def test_that_no_library_is_imported_to_make_a_key():
    """NumPy and pandas stay unimported in a program that does not use them."""
    program = """
        import sys
        from scalable_hpc.cache.keys import call_key
        call_key(lambda x: x, ([{"a": (1, 2.0)}],), {})
        print([name for name in ("numpy", "pandas", "cloudpickle") if name in sys.modules])
    """

    assert run_python(program) == "[]"
