"""Laws of call keys."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.cache.encode import Unencodable, digest
from scalable_hpc.cache.keys import KeyMaker, call_key, lineage_key
from scalable_hpc.cache.markers import FileType
from scalable_hpc.model.tasks import ResultRef
from tests.cache_support import by_name, load_module, run_python


def subtract(x, y):
    return x - y


def spelled(a, b=2, /, c=3, *rest, d=4, **extra):
    return a


def same_body(x, y):
    return x - y


def hexed(function, *args, **kwargs):
    return call_key(function, args, kwargs).hex


def test_that_swapped_arguments_have_keys_of_their_own():
    """Values are bound to their parameters."""
    assert hexed(subtract, 5, 3) != hexed(subtract, 3, 5)
    assert hexed(subtract, x="a", y="b") != hexed(subtract, x="b", y="a")
    assert hexed(spelled, 1, 2, 3, 5, 6) != hexed(spelled, 1, 2, 3, 6, 5)
    assert hexed(spelled, 1, p=1, q=2) != hexed(spelled, 1, p=2, q=1)


plain_values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(2**63, 2**65), st.floats(), st.text(), st.text(min_size=60)
)


@given(plain_values, plain_values)
def test_that_remembering_plain_arguments_mixes_none_of_them_up(one, other):
    """A key is of this value and this type, whatever equal value the same maker met before: 1, True, 1.0, -0.0."""
    maker = KeyMaker(subtract)
    met = [maker.key(pair, {}).parts.arguments for pair in ((one, other), (other, one), (one, one), (other, other))]
    fresh = {name: digest(value, by_name).hex() for name, value in (("one", one), ("other", other))}

    assert met[0] == (("x", fresh["one"]), ("y", fresh["other"]))
    assert met[1] == (("x", fresh["other"]), ("y", fresh["one"]))
    assert [{value for _, value in pair} for pair in met[2:]] == [{fresh["one"]}, {fresh["other"]}]


def test_that_equal_values_of_other_types_are_not_taken_for_remembered_ones():
    """In either order."""
    keys = [KeyMaker(subtract).key((value, 0), {}).hex for value in (1, True, 1.0, 0, False, 0.0, -0.0, "1", 1, 0)]

    assert len(set(keys)) == 8
    assert keys[-2:] == [keys[0], keys[3]]


def test_that_every_spelling_of_a_call_has_one_key():
    """By position, by name or by default: the same call, the same key."""
    assert hexed(subtract, 1, 2) == hexed(subtract, 1, y=2) == hexed(subtract, y=2, x=1)
    assert hexed(spelled, 1) == hexed(spelled, 1, 2) == hexed(spelled, 1, 2, 3) == hexed(spelled, 1, c=3, d=4)
    assert hexed(spelled, 1, p=1, q=2) == hexed(spelled, 1, q=2, p=1)


def test_that_extra_names_are_not_parameters():
    """``**kwargs`` may repeat a positional-only parameter's name and is still told apart from it."""
    assert len({hexed(spelled, 1), hexed(spelled, 1, b=2), hexed(spelled, 1, a=1), hexed(spelled, 1, 2, 3, 4)}) == 4


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"z": 1}), ((1, 2), {"x": 1})])
def test_that_a_call_that_python_would_refuse_is_refused(args, kwargs):
    """Arguments that do not fit the signature raise ``TypeError``, as the call would."""
    with pytest.raises(TypeError):
        call_key(subtract, args, kwargs)


def test_that_known_collisions_of_short_keys_do_not_collide():
    """Keys have 256 bits; two arguments that collide in 32 do not."""
    one, other = hexed(subtract, 25688, 0), hexed(subtract, 96525, 0)

    assert (len(one), one != other) == (64, True)


def test_that_types_count():
    """``1``, ``"1"``, ``1.0``, ``True`` and Python's equal hashes are all different calls."""
    values = [1, "1", 1.0, True, b"1", (1, 2), [1, 2], {1: 2}, -1, -2, 2**61, {"a": 1}]

    assert len({hexed(subtract, value, 0) for value in values}) == len(values)


def test_that_keys_are_the_same_in_another_process():
    """Text and dicts as arguments, of any function, have one key under every hash seed."""
    program = """
        from scalable_hpc.cache.keys import call_key
        from textwrap import dedent
        print(call_key(dedent, (), {"text": {"name": "x", "tags": {"a", "b", "c"}}}).hex)
    """

    assert len({run_python(program, hash_seed=seed) for seed in (1, 2, 3)}) == 1


def test_that_two_functions_never_share_a_key():
    """Functions with the same code and other names are other functions."""
    assert hexed(subtract, 1, 2) != hexed(same_body, 1, 2)


def test_that_version_and_dependencies_are_part_of_the_key(tmp_path):
    """``version`` by type and value, functions by code, libraries by version, paths by content."""
    data = tmp_path / "data.csv"
    data.write_text("a")

    def keyed(**options):
        return call_key(subtract, (1, 2), {}, **options).hex

    family = [
        keyed(), keyed(version=1), keyed(version="1"), keyed(version=2), keyed(depends_on=["blake3"]),
        keyed(depends_on=["pytest"]), keyed(depends_on=["blake3", "pytest"]), keyed(depends_on=[same_body]),
        keyed(depends_on=["json"]), keyed(depends_on=[data]), keyed(depends_on=[pytest, "blake3"]),
    ]  # fmt: skip
    data.write_text("b")

    assert len({*family, keyed(depends_on=[data])}) == len(family) + 1
    assert keyed(depends_on=[pytest]) == keyed(depends_on=["pytest"])


def test_that_a_function_depended_on_counts_by_its_code(tmp_path):
    """An edit of a function named in ``depends_on`` changes the key."""
    one, same, other = (load_module(tmp_path, f"def f(): return {n}\n").f for n in (1, 1, 2))
    keys = [call_key(subtract, (1, 2), {}, depends_on=[f]).hex for f in (one, same, other)]

    assert (keys[0] == keys[1], keys[0] == keys[2]) == (True, False)


def test_that_a_dependency_that_cannot_be_named_is_refused():
    """A library that is not installed has no version that could count."""
    with pytest.raises(Unencodable, match="no installed distribution"):
        call_key(subtract, (1, 2), {}, depends_on=["no_such_library_anywhere"])


def test_that_ignored_parameters_do_not_count():
    """A parameter that does not alter the result may take any value, even one without an encoding."""
    quiet = call_key(spelled, (1,), {"d": False, "verbose": 1}, ignore=["d", "verbose"])
    loud = call_key(spelled, (1,), {"d": threading.Lock(), "verbose": 2}, ignore=["d", "verbose"])

    assert quiet.hex == loud.hex


def test_that_ignoring_what_is_not_there_is_an_error():
    """A misspelled name in ``ignore`` is not passed over."""
    with pytest.raises(TypeError, match="verbos"):
        call_key(subtract, (1, 2), {}, ignore=["verbos"])


def test_that_a_declared_file_counts_by_content(tmp_path):
    """``FileType`` takes a path, several of them, or None."""
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("x")
    b.write_text("x")

    def keyed(x):
        return call_key(subtract, (x, 0), {}, arg_types={"x": FileType}).hex

    assert keyed(a) == keyed(str(b)) == keyed(FileType(a))
    assert keyed([a, b]) == keyed([b, a]) != keyed(a)
    assert keyed(None) == hexed(subtract, None, 0)


def test_that_what_has_no_encoding_is_named_by_its_argument():
    """The complaint says which argument of the call it is about."""
    with pytest.raises(Unencodable, match=r"argument x\['model'\]"):
        call_key(subtract, ({"model": threading.Lock()}, 1), {})


def test_that_a_sentinel_default_is_no_obstacle():
    """A default that is a bare object counts as the default."""
    missing = object()

    def f(x=missing):
        return x

    assert hexed(f) == hexed(f, missing) != hexed(f, None)


def test_that_parts_name_what_a_key_was_made_from():
    """A key carries each argument's digest by name, so that two keys can be compared."""
    one, other = (call_key(subtract, (1, y), {}).parts for y in (1, 2))
    changed = [a for (a, d), (_, e) in zip(one.arguments, other.arguments, strict=True) if d != e]

    assert (changed, one.function, one.code == other.code) == (["y"], f"{__name__}.subtract", True)


def test_that_any_callable_has_a_lineage():
    """Builtins, classes, partials, bound methods and callable objects can be named too."""
    import functools

    calls = [max, int, str.lower, "a".join, functools.partial(subtract, 1), print, threading.Lock().acquire]

    keys = {lineage_key(call, (1,), {}, unique="u").hex for call in calls}

    assert len(keys) == len(calls)


def test_that_a_lineage_without_an_encoding_is_unique():
    """What cannot be encoded is told apart by the text that the caller gives, and only then is that text needed."""
    lock = threading.Lock()
    mine, other = (lineage_key(subtract, (lock, 1), {}, unique=text).hex for text in ("a", "b"))
    plain, again = (lineage_key(subtract, (2, 1), {}, unique=text).hex for text in ("a", "b"))

    assert (mine != other, plain == again) == (True, True)


def test_that_equal_calls_of_one_run_can_be_told_apart():
    """The n-th equal call has a lineage of its own, the same in the next run."""
    first, second, again = (lineage_key(subtract, (2, 1), {}, unique="", occurrence=n).hex for n in (0, 1, 1))

    assert (first != second, second == again) == (True, True)


def test_that_a_lineage_is_never_a_call_key():
    """The two kinds of key cannot meet in one store."""
    assert lineage_key(subtract, (2, 1), {}, unique="").hex != hexed(subtract, 2, 1)


def test_that_a_lineage_follows_its_ancestors():
    """An argument that is another task's result counts by that task's lineage."""
    ref, same, other = ResultRef("t-1", "a" * 64), ResultRef("t-9", "a" * 64), ResultRef("t-1", "b" * 64)
    keys = [lineage_key(subtract, ([each], 1), {}, unique="").hex for each in (ref, same, other)]

    assert (keys[0] == keys[1], keys[0] == keys[2]) == (True, False)


def test_that_a_maker_notices_what_changed_between_calls(tmp_path):
    """The code that was remembered from the last call is looked at again."""
    module = load_module(tmp_path, "K = 1\ndef target(x): return x * K\n")
    maker = KeyMaker(module.target)
    before = maker.key((1,), {}).hex
    module.K = 2
    after = maker.key((1,), {}).hex
    module.K = 1

    assert (before != after, maker.key((1,), {}).hex) == (True, before)
