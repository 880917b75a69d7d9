"""Keys that were written down once: every Python, every machine and every later release must make the same ones.

When an encoding is changed on purpose, ``keys.ENCODING`` is raised and the table is made anew with
``python -m tests.unit.cache.test_golden_keys``.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import json
import math
import operator
import pathlib
import tempfile
import uuid
import zoneinfo
from pathlib import Path

import pytest

from scalable_hpc.cache.code import code_of
from scalable_hpc.cache.encode import digest
from scalable_hpc.cache.keys import ENCODING, KeyMaker
from tests.cache_support import ROOT, by_name, load_module

GOLDEN = ROOT / "tests" / "golden" / "keys.json"


class Colour(enum.Enum):
    RED = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Config:
    name: str
    rates: list


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: int


class Plain:
    def __init__(self):
        self.size = 3

    def grow(self, by):
        return self.size + by


class Hooked:
    def __scalable_key__(self):
        return "hooked"


Point = collections.namedtuple("Point", "x y")  # noqa: PYI024 - the kind without a class statement
for _cls in (Colour, Access, Config, Slotted, Plain, Hooked, Point):
    _cls.__module__ = "golden"  # whichever way this file is imported
Plain.grow.__module__ = "golden"
circle: list = [1]
circle.append(circle)

VALUES = {
    "none": None, "true": True, "zero": 0, "one": 1, "minus two": -2, "large": 2**70, "negative large": -(2**70),
    "float": 0.1, "float zero": 0.0, "minus zero": -0.0, "nan": math.nan, "infinity": -math.inf, "complex": 1 - 2j,
    "text": "grün\ud800", "no text": "", "bytes": b"\0\xff", "bytearray": bytearray(b"x"), "long bytes": bytes(9000),
    "list": [1, "1", 1.0], "long list": list(range(40)), "floats": [0.5] * 40, "words": ["a", "", "bc"] * 9,
    "mixed": [1, 2.0] * 20, "tuple": (1, (2,)), "dict": {"b": 1, "a": {2: None}}, "set": {3, "x", (1, 2)},
    "frozenset": frozenset({b"a", b"b"}), "range": range(1, 9, 2), "slice": slice(1, None, 2), "circle": circle,
    "date": dt.date(2026, 11, 22), "moment": dt.datetime.fromisoformat("2026-11-22T08:45:12.000007"),
    "zoned": dt.datetime(2026, 11, 22, tzinfo=zoneinfo.ZoneInfo("Europe/Oslo")), "utc": dt.timezone.utc,
    "offset": dt.timezone(dt.timedelta(hours=2)), "time": dt.time(1, 2, 3), "span": dt.timedelta(1, 2, 3),
    "decimal": decimal.Decimal("1.10"), "fraction": fractions.Fraction(1, 3), "uuid": uuid.UUID(int=5),
    "path": pathlib.PurePosixPath("/a/b"), "enum": Colour.RED, "flag": Access.READ | Access.WRITE,
    "dataclass": Config("a", [1, 2]), "slotted": Slotted(1), "named tuple": Point(1, 2), "object": Plain(),
    "hooked": Hooked(), "ordered": collections.OrderedDict(b=1, a=2), "counter": collections.Counter("aab"),
    "deque": collections.deque([1, 2], 5), "default dict": collections.defaultdict(list, a=[1]),
    "partial": functools.partial(operator.add, 1), "method": Plain().grow, "function": operator.add, "class": Plain,
    "ellipsis": ..., "memory": memoryview(b"abc"),
}  # fmt: skip
_CODE = '''
import functools
from dataclasses import dataclass

RATE = {"a": 1.5}
scale = lambda x: x * RATE["a"]

@dataclass
class Model:
    size: int = 3

    def run(self, *, step=1):
        return [scale(n) for n in range(self.size) if n % step == 0]

def maker(n):
    def inner(x):
        return x + n
    return inner

add = maker(4)

@functools.lru_cache
def plain(x, y=2, *rest, z: int = 3, **extra):
    """Doc."""
    try:
        match_ = {k: v for k, v in extra.items()}
    except (KeyError, ValueError) as err:
        raise RuntimeError(f"{x!r:>{y}} {err}") from err
    while x:
        x -= 1
    else:
        match_ = None
    with open("a.txt") as file, open("b.txt"):
        total = file.read()[1:2, ...] if rest else add(x) @ Model().run()
    yield from (y := match_)
    yield y, *rest
    return total

async def coroutine(x):
    async with x as y:
        return [await z async for z in y]

class Child(Model):
    total: int = 0

    @property
    def last(self):
        return super().run()[-1]

    @classmethod
    def make(cls, /, *args):
        del args[0]
        assert cls, "none"
        global RATE
        return cls(*args)

def target(x, how=Child, steps=(1, 2)):
    return plain(x), how.make, coroutine, steps
'''


def numpy_values():
    np = pytest.importorskip("numpy")
    record = np.zeros(3, [("a", "<i4"), ("b", "<f8", (2,))])
    return {
        "array": np.arange(6.0).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "large array": np.arange(100_000, dtype="<i4"),
        "scalar": np.float32(0.5),
        "no dimension": np.array(7),
        "record": record,
        "moments": np.array(["2026-11-22", "NaT"], "M8[ns]"),
        "texts": np.array(["a", "bc"]),
        "objects": np.array([1, "a", None], dtype=object),
        "masked": np.ma.array([1, 2], mask=[True, False]),
        "dtype": np.dtype("<f8"),
    }


def code_keys(folder: Path) -> dict[str, str]:
    module = load_module(folder, _CODE, "golden_model")
    names = ("target", "add", "coroutine", "maker")
    made = {f"code of {name}": KeyMaker(getattr(module, name)).code().digest.hex() for name in names}
    made["call"] = KeyMaker(module.target, version=2).key((1,), {"steps": [3]}).hex
    made["child"] = digest(module.Child(4), code_of).hex()
    return made


def all_keys(folder: Path) -> dict[str, str]:
    """Return every key by its name."""
    made = {name: digest(value, by_name).hex() for name, value in {**VALUES, **numpy_values()}.items()}
    return {**made, **code_keys(folder)}


def test_that_keys_are_those_that_were_written_down(tmp_path):
    """Whatever Python makes them."""
    pytest.importorskip("numpy")
    written = json.loads(GOLDEN.read_text())

    assert written["encoding"] == ENCODING
    now = all_keys(tmp_path)
    assert {name: key for name, key in now.items() if written["keys"].get(name) != key} == {}
    assert now.keys() == written["keys"].keys()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made_in:
        GOLDEN.write_text(json.dumps({"encoding": ENCODING, "keys": all_keys(Path(made_in))}, indent=1) + "\n")
