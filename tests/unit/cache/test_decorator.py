"""Laws of ``@cacheable``."""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import warnings
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from scalable_hpc.cache.calls import CacheWarning
from scalable_hpc.cache.decorator import cacheable, default_store_root, set_default_store_root
from scalable_hpc.cache.markers import FileType, ObjectType, ValueType
from scalable_hpc.cache.shared import default_store
from scalable_hpc.cache.store import Store
from scalable_hpc.model.tasks import ResultRef
from tests.cache_support import ROOT, load_module, rewrite_entries, run_python

RUNS: list[object] = []


@pytest.fixture(autouse=True)
def root(tmp_path):
    """A store of this test's own."""
    set_default_store_root(tmp_path / "cache")
    RUNS.clear()
    yield tmp_path / "cache"
    default_store().close()
    set_default_store_root(None)


def ran(value):
    """Note that the body was run; outside the module's code as far as keys are concerned."""
    RUNS.append(value)
    return value


@cacheable(return_type=dict, ignore="RUNS", scenario_id=int)
def simulate(scenario_id: int, rate: float = 0.5) -> dict:
    """Simulate."""
    return {"id": ran(scenario_id), "value": scenario_id * rate}


@cacheable(ignore="RUNS")
def anything(x, y=0):
    return ran(x)


def test_that_a_known_call_is_not_computed_again():
    """The second call of the same scenario, however spelled, is answered from the store."""
    results = [simulate(3), simulate(scenario_id=3, rate=0.5), simulate(4)]

    assert results == [{"id": 3, "value": 1.5}, {"id": 3, "value": 1.5}, {"id": 4, "value": 2.0}]
    assert RUNS == [3, 4]


def test_that_swapped_arguments_get_results_of_their_own():
    """``sub(5, 3)`` is not ``sub(3, 5)``."""

    @cacheable
    def subtract(x, y):
        return x - y

    assert (subtract(5, 3), subtract(3, 5), subtract(x=3, y=5)) == (2, -2, -2)


def test_that_values_that_merely_look_alike_are_computed_each():
    """Types are told apart, and so are Python's equal hashes."""
    values = [1, "1", 1.0, True, b"1", -1, -2, (1, 2), [1, 2]]

    assert [anything(value) for value in values] == values
    assert len(RUNS) == len(values)


def test_that_none_is_a_result():
    """A function that returns None is computed once."""
    assert [anything(None), anything(None)] == [None, None]
    assert RUNS == [None]


def test_that_every_hit_is_a_value_of_its_own():
    """What a caller does to a result never reaches the next caller."""
    first = simulate(1)
    first["value"] = "spoiled"
    array = anything(np.arange(3))
    array[0] = 9

    assert simulate(1)["value"] == 0.5
    assert anything(np.arange(3))[0] == 0


def test_that_an_exception_is_not_kept():
    """A call that raised runs again."""

    @cacheable(ignore="RUNS")
    def fails(x):
        ran(x)
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            fails(1)

    assert RUNS == [1, 1]


def test_that_results_outlive_the_process(tmp_path):
    """A second process, with another hash seed, finds what the first one computed."""
    (tmp_path / "study.py").write_text(
        "from scalable_hpc.cache.decorator import cacheable\n\n\n"
        "@cacheable(config=dict, name=str)\n"
        "def run(name, config):\n    print('computed')\n    return [name, config]\n"
    )
    program = """
        import sys
        sys.path[:0] = [sys.argv[1]]
        from study import run
        print(run("a", {"x": {"p", "q", "r"}})[0])
    """
    env = {"SCALABLE_CACHE_DIR": str(tmp_path / "shared")}

    printed = [run_python(program, tmp_path, hash_seed=seed, **env).split() for seed in (1, 2, 3)]

    assert printed == [["computed", "a"], ["a"], ["a"]]


def test_that_an_edited_helper_makes_the_call_run_again(tmp_path):
    """Changed code is another call; code changed back is the old one."""
    source = """
        from scalable_hpc.cache.decorator import cacheable
        def helper(x): return x * {n}
        @cacheable
        def run(x): return helper(x)
    """

    results = [load_module(tmp_path, source.replace("{n}", n)).run(5) for n in ("2", "3", "2")]

    assert results == [10, 15, 10]


def test_that_two_closures_do_not_share_results():
    """Functions made by one factory differ by what they close over."""

    def make(n):
        @cacheable
        def multiply(x):
            return x * n

        return multiply

    assert (make(2)(5), make(3)(5)) == (10, 15)


def test_that_refresh_replaces_what_is_kept():
    """After a refresh everybody gets the new result."""
    source = [1]

    def make(refresh):
        @cacheable(refresh=refresh, ignore="source")
        def read(x):
            return source[0] + x

        return read

    make(False)(0)
    source[0] = 2

    assert (make(False)(0), make(True)(0), make(False)(0)) == (1, 2, 2)


def test_that_store_false_uses_and_does_not_keep():
    """``store=False`` looks results up and keeps none."""

    def make(store):
        @cacheable(store=store, ignore="RUNS")
        def read(x):
            return ran(x)

        return read

    make(False)(1), make(False)(1), make(True)(1), make(False)(1)

    assert RUNS == [1, 1, 1]


def test_that_version_is_part_of_the_key():
    """Raising ``version`` makes the call run again."""

    def make(version):
        @cacheable(version=version, ignore="RUNS")
        def read(x):
            return ran(version)

        return read

    def closed(version):
        return make(version)(1)

    assert [closed(version) for version in ("1", "2", "1")] == ["1", "2", "1"]
    assert RUNS == ["1", "2"]


def test_that_depends_on_takes_paths_libraries_and_functions(tmp_path):
    """A changed file that is depended on makes the call run again."""
    data = tmp_path / "data"
    data.write_text("a")

    @cacheable(depends_on=(data, "blake3", ran), ignore="RUNS")
    def read(x):
        return ran(data.read_text())

    results = [read(1), read(1)]
    data.write_text("b")

    assert [*results, read(1)] == ["a", "a", "b"]
    assert RUNS == ["a", "b"]


def test_that_ignored_parameters_do_not_matter():
    """A call that differs only in an ignored parameter is known."""

    @cacheable(ignore=("verbose", "RUNS"))
    def read(x, verbose=0):
        return ran(x)

    read(1), read(1, verbose=1), read(1, verbose=threading.Lock())

    assert RUNS == [1]


def test_that_an_ignored_name_that_is_nothing_is_an_error():
    """A misspelled name in ``ignore`` is said at the first call."""

    @cacheable(ignore="verbos")
    def read(x, verbose=0):
        return x

    with pytest.raises(TypeError, match="verbos"):
        read(1)


def test_that_files_count_by_content(tmp_path):
    """A declared file is read for the key; its name does not matter."""

    @cacheable(path=FileType, ignore="RUNS")
    def count(path):
        return ran(len(Path(path).read_text()))

    for name, text in (("a", "xx"), ("b", "xx"), ("c", "xxx")):
        (tmp_path / name).write_text(text)

    assert [count(tmp_path / name) for name in "abc"] == [2, 2, 3]
    assert RUNS == [2, 3]


def test_that_an_argument_without_an_encoding_bypasses_the_cache():
    """One warning, and the call runs uncached every time."""
    lock = threading.Lock()

    with pytest.warns(CacheWarning, match="argument x") as caught:
        results = [anything(lock), anything(lock)]

    assert (results, len(caught)) == ([lock, lock], 1)


def test_that_a_result_that_cannot_be_pickled_is_still_returned():
    """One warning, and the caller has the result."""

    @cacheable
    def make(x):
        return (n for n in range(x))

    with pytest.warns(CacheWarning, match="not kept"):
        assert list(make(3)) == [0, 1, 2]


def test_that_a_store_that_cannot_be_opened_costs_only_a_warning(tmp_path):
    """Without a store, calls run uncached."""
    (tmp_path / "file").write_text("")
    set_default_store_root(tmp_path / "file" / "cache")

    with pytest.warns(CacheWarning, match="without the cache") as caught:
        assert [simulate(1)["id"], simulate(1)["id"]] == [1, 1]

    set_default_store_root(tmp_path / "cache")
    assert (RUNS, len(caught)) == ([1, 1], 1)


def test_that_a_damaged_result_is_computed_again(root):
    """A flipped bit or a cut file costs one computation, silently."""
    simulate(1)
    pack = next(root.glob("v1/packs/*.pack"))
    raw = bytearray(pack.read_bytes())
    raw[-1] ^= 1
    pack.write_bytes(raw)
    damaged = simulate(1)
    again = simulate(1)

    assert damaged == again == {"id": 1, "value": 0.5}
    assert RUNS == [1, 1]


def test_that_no_option_is_passed_over():
    """A name that is neither an option nor a parameter is an error where it is written."""
    for wrong in (0, -1, "5", True, float("nan")):
        with pytest.raises(TypeError, match="ttl"):
            cacheable(ttl=wrong)(lambda x: x)
    with pytest.raises(TypeError, match="recompute"):
        cacheable(recompute=True)(lambda x: x)
    with pytest.raises(TypeError, match="not a type"):
        cacheable(x="int")(lambda x: x)
    with pytest.raises(TypeError, match="depends_on"):
        cacheable(depends_on=5)(lambda x: x)
    with pytest.raises(TypeError, match="staticmethod"):
        cacheable(staticmethod(lambda x: x))


def test_that_declared_arguments_are_checked():
    """An argument of another type raises before anything is computed."""
    for wrong in ("3", 3.0, True, None, [3]):
        with pytest.raises(TypeError, match="scenario_id"):
            simulate(wrong)

    assert RUNS == []


def test_that_numpy_scalars_are_brought_into_the_declared_type():
    """NumPy's whole number is the declared ``int``, to the key and to the function."""
    results = [simulate(np.int64(3)), simulate(3)]

    assert (RUNS, type(RUNS[0]), results[0]) == ([3], int, results[1])


@pytest.mark.parametrize(
    ("declared", "given", "wanted"),
    [
        (float, 1, 1.0), (float, np.float32(0.5), 0.5), (str, np.str_("a"), "a"), (bool, np.True_, True), (Path, "a",
        Path("a")),
        (list[int], [1], [1]), (int | None, None, None), (np.ndarray, np.arange(2), np.arange(2)), (ValueType, "x",
        "x"),
        (ObjectType, {"a": 1}, {"a": 1}), (object, 5, 5),
    ],
)  # fmt: skip
def test_that_declared_types_forgive_form_and_not_value(declared, given, wanted):
    """A value of the right meaning is brought into its declared type before the call."""

    @cacheable(x=declared)
    def kind(x):
        return type(x).__name__, x

    name, value = kind(given)

    assert (name, np.array_equal(value, wanted)) == (type(wanted).__name__, True)


@pytest.mark.parametrize(
    ("declared", "given"),
    [(float, 2**53 + 1), (float, "1"), (int, 1.0), (list[int], (1,)), (int | None, "a"), (str, b"a")],
)
def test_that_declared_types_do_not_lose_anything(declared, given):
    """What would lose value on the way is refused."""

    @cacheable(x=declared)
    def kind(x):
        return x

    with pytest.raises(TypeError, match="'x' of"):
        kind(given)


def test_that_a_result_to_come_passes_unchecked():
    """A reference to another task's result has no type yet."""
    spec = simulate.__scalable_cache__

    assert spec.prepare((ResultRef("t", "a" * 64),), {})[0] == (ResultRef("t", "a" * 64),)
    assert len(spec.call_key((ResultRef("t", "a" * 64),), {}).hex) == 64


def test_that_a_result_of_another_type_is_refused_and_not_kept():
    """``return_type`` is checked when a result is made."""

    @cacheable(return_type=dict, ignore="RUNS")
    def wrong(x):
        return [ran(x)]

    for _ in range(2):
        with pytest.raises(TypeError, match="must return dict, not list"):
            wrong(1)

    assert RUNS == [1, 1]


def test_that_a_kept_result_of_another_type_is_computed_again():
    """A result that was kept under an earlier declaration is checked against today's."""

    def make(declared, value):
        @cacheable(return_type=declared, ignore=("value", "RUNS"))
        def read(x):
            return ran(value)

        return read

    assert (make(None, [1])(0), make(list, [2])(0), make(dict, {})(0), make(dict, {3: 3})(0)) == ([1], [1], {}, {})


def test_that_the_controls_do_what_they_say():
    """``key``, ``contains``, ``get``, ``forget`` and ``uncached`` of one call."""
    before = simulate.cache.contains(7)
    with pytest.raises(KeyError):
        simulate.cache.get(7)
    simulate(7)
    seen = (
        simulate.cache.contains(scenario_id=7),
        simulate.cache.get(7),
        simulate.cache.forget(7),
        simulate.cache.forget(7),
    )
    after = simulate.cache.contains(7)
    simulate.cache.uncached(7)

    assert (before, seen, after) == (False, (True, {"id": 7, "value": 3.5}, True, False), False)
    assert (RUNS, simulate.cache.contains(7)) == ([7, 7], False)
    assert simulate.cache.key(7) == simulate.__scalable_cache__.call_key((7,), {}).hex


def age(root, by_s):
    """Let every result of a store be that much older."""
    for path in (root / "v1" / "packs").glob("*.idx"):
        rewrite_entries(path, lambda entry: replace(entry, created=entry.created - by_s))
    default_store().close()  # the next one reads them anew


@pytest.mark.parametrize("ttl", [60, timedelta(minutes=1)])
def test_that_a_result_is_forgotten_after_its_ttl(root, ttl):
    """Younger ones are found, older ones computed anew and kept in their turn."""

    @cacheable(ttl=ttl, ignore="RUNS")
    def quote(x):
        return ran(x)

    for by_s in (0, 50, 20, 30):  # ages when called: none yet, 50, 70 and so new, 30
        age(root, by_s)
        quote(1)
    assert RUNS == [1, 1]
    age(root, 70)

    assert quote.cache.contains(1) is False
    with pytest.raises(KeyError):
        quote.cache.get(1)


def test_that_a_key_for_looking_up_has_no_stale_result(root):
    """Whoever looks a key up elsewhere, as the client does, finds nothing that has outlived its ttl."""

    @cacheable(ttl=60, ignore="RUNS")
    def quote(x):
        return ran(x)

    quote(1)
    assert default_store().lookup(quote.__scalable_cache__.call_key((1,), {}).hex) is not None
    age(root, 70)
    key = quote.cache.key(1)
    assert default_store().lookup(key) is not None

    assert quote.__scalable_cache__.call_key((1,), {}).hex == key
    with Store(root) as other:
        assert other.lookup(key) is None


def test_that_a_void_function_runs_every_time(root):
    """It is called for what it does: nothing is kept, and nothing is looked for."""

    @cacheable(void=True, ignore="RUNS")
    def tell(x):
        ran(x)

    assert (tell(1), tell(1), RUNS) == (None, None, [1, 1])
    assert (tell.__scalable_cache__.store, tell.cache.contains(1)) == (False, False)


def test_that_options_travel_with_their_function():
    """A function that is sent by value keeps what was said of it."""
    import cloudpickle

    @cacheable(ttl=timedelta(hours=1), check_output=True, version=3)
    def one(x):
        return x

    @cacheable(void=True)
    def other(x):
        return x

    specs = [cloudpickle.loads(cloudpickle.dumps(each)).__scalable_cache__ for each in (one, other)]

    assert [(spec.ttl_s, spec.check_output, spec.version, spec.void, spec.store) for spec in specs] == [
        (3600.0, True, 3, False, True),
        (None, False, None, True, False),
    ]


def test_that_methods_are_cacheable():
    """A method's key covers its instance's values and its class."""

    class Model:
        def __init__(self, size):
            self.size = size

        @cacheable(ignore="RUNS")
        def run(self, x):
            return ran(self.size * x)

        @staticmethod
        @cacheable
        def fixed(x):
            return x

    assert [Model(2).run(3), Model(2).run(3), Model(3).run(3), Model.fixed(1)] == [6, 6, 9, 1]
    assert RUNS == [6, 9]


def test_that_a_function_below_another_decorator_keeps_its_parameters():
    """Declared types name the parameters of the function that the other decorator wraps."""

    def plain(function):
        @functools.wraps(function)
        def inner(*args):
            return function(*args)

        return inner

    @cacheable(x=int)
    @plain
    def double(x):
        return 2 * x

    assert (double(2), double(2)) == (4, 4)
    with pytest.raises(TypeError, match="'x' of"):
        double("2")


def test_that_a_decorated_function_looks_like_the_original():
    """Name, documentation and the raw callable are at hand."""
    spec = simulate.__scalable_cache__

    assert (simulate.__name__, simulate.__doc__, simulate.__wrapped__) == ("simulate", "Simulate.", spec.function)
    assert (spec.refresh, spec.store, spec.return_type) == (False, True, dict)


def test_that_an_importable_function_travels_by_name():
    """A function of a module is pickled by reference, and so is its spec."""
    import json

    assert pickle.loads(pickle.dumps(simulate)) is simulate
    assert pickle.loads(pickle.dumps(simulate.__scalable_cache__)) is simulate.__scalable_cache__
    assert json  # a module that was imported meanwhile changes nothing


def test_that_a_scripts_function_travels_by_value(tmp_path):
    """A function of ``__main__`` runs, and is known by the same key, in a process that has never seen the script."""
    script = tmp_path / "driver.py"
    script.write_text(
        textwrap.dedent("""
        import sys, cloudpickle
        from scalable_hpc.cache.decorator import cacheable
        RATE = 2
        def helper(x): return x * RATE
        @cacheable(return_type=int, version="7", x=int)
        def run(x): return helper(x)
        open(sys.argv[1], "wb").write(cloudpickle.dumps([run, run.__scalable_cache__]))
        print(run.cache.key(5), run(5))
        """)
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "SCALABLE_HPC_CACHE_DIR": str(tmp_path / "shared")}
    command = [sys.executable, script, tmp_path / "pickle"]
    home = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    away = run_python(
        """
        import pickle, sys
        run, spec = pickle.load(open(sys.argv[1], "rb"))
        assert run.cache.contains(5) and spec.version == "7" and run.__scalable_cache__ is spec
        print(run.cache.key(5), run(5))
        """,
        tmp_path / "pickle",
        SCALABLE_HPC_CACHE_DIR=str(tmp_path / "shared"),
    )

    assert away == home.strip()


def test_that_the_environment_names_the_store(tmp_path, monkeypatch):
    """Our variable, then Scalable's, then ``.scalable/cache`` below the working directory; fixed at the first use."""
    monkeypatch.chdir(tmp_path)
    roots = []
    for ours, theirs in (("a", "b"), ("", "b"), ("", "")):
        monkeypatch.setenv("SCALABLE_HPC_CACHE_DIR", ours)
        monkeypatch.setenv("SCALABLE_CACHE_DIR", theirs)
        set_default_store_root(None)
        roots.append(Path(default_store_root()).relative_to(tmp_path).as_posix())
    monkeypatch.chdir("/")
    last = default_store_root()
    set_default_store_root(tmp_path / "cache")

    assert (roots, last) == (["a", "b", ".scalable/cache"], str(tmp_path / ".scalable/cache"))


def test_that_decorating_imports_next_to_nothing():
    """A module full of cacheable functions is imported without the store, the hash or any library."""
    program = """
        import sys
        from scalable_hpc.cache.decorator import cacheable
        @cacheable(return_type=dict, x=int)
        def f(x): return x
        heavy = ("blake3", "cloudpickle", "numpy", "inspect", "scalable_hpc.cache.store", "scalable_hpc.cache.keys")
        print([name for name in heavy if name in sys.modules])
    """

    assert run_python(program, check=True) == "[]"


def test_that_threads_may_call_at_once():
    """Threads that compute one call at once all get a right result, and the store keeps one."""
    from concurrent.futures import ThreadPoolExecutor

    with warnings.catch_warnings(), ThreadPoolExecutor(8) as pool:
        warnings.simplefilter("error")
        results = list(pool.map(simulate, [5] * 8))

    assert results == [{"id": 5, "value": 2.5}] * 8
    assert len(default_store()) == 1
