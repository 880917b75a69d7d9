"""Laws of code identity: what a function's results depend on besides its arguments."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from scalable_hpc.cache.code import code_of, identity
from scalable_hpc.cache.encode import Unencodable, digest
from tests.cache_support import load_module, run_python

BASE = """
    import functools
    from dataclasses import dataclass

    RATE = 2
    TABLE = {"low": 1, "high": (2, 3)}
    UNRELATED = 1

    def helper(x):
        return inner(x) * RATE

    def inner(x):
        return x + 1

    def unrelated(x):
        return x

    def scaled(n):
        def around(function):
            @functools.wraps(function)
            def wrapper(*args):
                return function(*args) * n
            return wrapper
        return around

    @scaled(3)
    def decorated(x):
        return x

    @functools.lru_cache
    def remembered(x):
        return x - 1

    @dataclass
    class Model:
        size: int = 3

        def run(self):
            return self.size

    class Child(Model):
        def walk(self):
            return inner(self.size)

    def multiplier(n):
        def multiply(x):
            return x * n
        return multiply

    double, triple = multiplier(2), multiplier(3)

    def even(n):
        return n == 0 or odd(n - 1)

    def odd(n):
        return n != 0 and even(n - 1)

    @functools.singledispatch
    def dispatch(x):
        return 0

    @dispatch.register
    def _(x: int):
        return 1

    def target(x, *, step=1):
        '''Doc.'''
        total = helper(x) + TABLE["low"]
        return total + decorated(x) + remembered(x) + Child().walk() + double(x) + even(x) + dispatch(x) + step
"""

MATTERING = {
    "own body": ("return total + decorated", "return total - decorated"),
    "a helper": ("return inner(x) * RATE", "return inner(x) / RATE"),
    "a helper's helper": ("return x + 1", "return x + 2"),
    "a constant that a helper reads": ("RATE = 2", "RATE = 3"),
    "a constant's type": ("RATE = 2", "RATE = 2.0"),
    "a nested constant": ('"high": (2, 3)', '"high": (2, 4)'),
    "a default": ("step=1", "step=2"),
    "a decorator's code": ("return function(*args) * n", "return function(*args) + n"),
    "a decorator's argument": ("@scaled(3)", "@scaled(4)"),
    "a decorated helper": ("def decorated(x):\n        return x", "def decorated(x):\n        return -x"),
    "a helper behind lru_cache": ("return x - 1", "return x - 2"),
    "a method of a base class": ("return self.size", "return self.size + 1"),
    "a class's field default": ("size: int = 3", "size: int = 4"),
    "a class decorator's option": ("@dataclass\n", "@dataclass(frozen=True)\n"),
    "what a closure holds": ("multiplier(2), multiplier(3)", "multiplier(4), multiplier(3)"),
    "which of two closures is meant": ("double, triple = multiplier", "triple, double = multiplier"),
    "one half of a mutual recursion": ("n != 0 and even(n - 1)", "n != 0 and even(n - 2)"),
    "an implementation that dispatch finds": ("def _(x: int):\n        return 1", "def _(x: int):\n        return 2"),
}  # fmt: skip
NOT_MATTERING = {
    "a comment": ("return x + 1", "return x + 1  # one more"),
    "a docstring": ("'''Doc.'''", "'''Other doc,\n        longer.'''"),
    "formatting": ("return inner(x) * RATE", "return (\n            inner(x)\n            * RATE\n        )"),
    "lines above": ("import functools", "import functools\n    # a licence\n\n\n"),
    "an unrelated function": ("def unrelated(x):\n        return x", "def unrelated(x):\n        return 7"),
    "an unrelated constant": ("UNRELATED = 1", "UNRELATED = 2"),
    "a global that shares an attribute's name": ("UNRELATED = 1", "UNRELATED = 1\n    walk = run = size = 5"),
    "order of functions": ("UNRELATED = 1", "UNRELATED = 1\n    def aaa(): pass"),
    "a closure that is not reached": ("multiplier(2), multiplier(3)", "multiplier(2), multiplier(5)"),
}


def hexed(folder, source, name="target"):
    return identity(getattr(load_module(folder, source), name)).digest.hex()


@pytest.mark.parametrize("edit", MATTERING.values(), ids=MATTERING)
def test_that_an_edit_of_what_the_function_reaches_changes_its_identity(tmp_path, edit):
    """Code, constants, closures, defaults, classes and decorators that are reached all count."""
    assert edit[0] in BASE

    assert hexed(tmp_path, BASE.replace(*edit)) != hexed(tmp_path, BASE)


@pytest.mark.parametrize("edit", NOT_MATTERING.values(), ids=NOT_MATTERING)
def test_that_an_edit_that_alters_no_result_keeps_the_identity(tmp_path, edit):
    """Comments, formatting, docstrings and unrelated code do not count."""
    assert edit[0] in BASE

    assert hexed(tmp_path, BASE.replace(*edit)) == hexed(tmp_path, BASE)


def test_that_the_identity_is_the_same_in_every_process(tmp_path):
    """Neither the hash seed nor the order in which functions were asked for matters."""
    (tmp_path / "usercode.py").write_text(textwrap.dedent(BASE))
    program = """
        import sys
        sys.path.insert(0, sys.argv[1])
        import usercode
        from scalable_hpc.cache.code import identity
        for name in sys.argv[2:]:
            identity(getattr(usercode, name))
        print(identity(usercode.target).digest.hex())
    """

    seen = {
        run_python(program, tmp_path, hash_seed=1),
        run_python(program, tmp_path, "odd", "even", "Child", hash_seed=2),
        hexed(tmp_path, BASE),
    }

    assert len(seen) == 1


def test_that_a_constant_rebound_or_changed_in_place_is_noticed(tmp_path):
    """Within one process too, an identity is of what the globals are now."""
    module = load_module(tmp_path, BASE)
    first = identity(module.target).digest
    module.TABLE["low"] = 5
    second = identity(module.target).digest
    module.RATE = 7
    third = identity(module.target).digest
    module.TABLE["low"], module.RATE = 1, 2

    assert len({first, second, third}) == 3
    assert identity(module.target).digest == first


def test_that_a_redefined_helper_is_noticed(tmp_path):
    """A helper that was rebound, as notebooks do, and a method that was replaced count at the next call."""
    module = load_module(tmp_path, BASE)
    seen = {identity(module.target).digest}
    module.inner = lambda x: x
    seen.add(identity(module.target).digest)
    module.Child.walk = lambda self: 0
    seen.add(identity(module.target).digest)
    module.dispatch.register(str)(lambda x: 2)
    seen.add(identity(module.target).digest)

    assert len(seen) == 4


def test_that_a_source_edited_after_the_import_is_not_trusted(tmp_path):
    """The identity is of the code that will run, not of what its file says by now."""
    module = load_module(tmp_path, "def target(x):\n    return x + 1\n")
    Path(module.__file__).write_text("def target(x):\n    return x + 2\n")

    stale = identity(module.target).digest.hex()

    assert stale != hexed(tmp_path, "def target(x):\n    return x + 2\n")


@pytest.mark.parametrize("depth", [0, 1, 2, 5])
def test_that_functions_of_one_code_are_told_apart_by_what_lies_deep_below(tmp_path, depth):
    """Two functions that differ only some closures down may not stand for each other."""
    source = """
        def leaf(n):
            def made(x):
                return x + n
            return made

        def around(function):
            def made(x):
                return function(x)
            return made

        def deep(function, depth):
            return deep(around(function), depth - 1) if depth else function

        a, b = deep(leaf({0}), DEPTH), deep(leaf({1}), DEPTH)

        def target(x):
            return a(x) - 2 * b(x)
    """.replace("DEPTH", str(depth))
    straight = hexed(tmp_path, source.replace("{0}", "1").replace("{1}", "2"))
    swapped = hexed(tmp_path, source.replace("{0}", "2").replace("{1}", "1"))
    again = hexed(tmp_path, source.replace("{0}", "1").replace("{1}", "2"))

    assert (straight == swapped, straight == again) == (False, True)


LIBRARY_WRAPPED = """
    import contextlib
    from scalable_hpc.cache.decorator import cacheable

    @contextlib.contextmanager
    def opened(x):
        yield x + 1

    @cacheable(version="1", x=int)
    def known(x):
        return x * 2

    def target(x):
        with opened(x) as y:
            return known(y)
"""


@pytest.mark.parametrize(
    "edit",
    [
        ("yield x + 1", "yield x + 2"),
        ("return x * 2", "return x * 3"),
        ('version="1"', 'version="2"'),
        ("=int", "=float"),
    ],
)
def test_that_helpers_behind_a_librarys_wrapper_are_followed(tmp_path, edit):
    """What a library's decorator wraps counts, and a cacheable helper counts with what it declares."""
    assert hexed(tmp_path, LIBRARY_WRAPPED.replace(*edit)) != hexed(tmp_path, LIBRARY_WRAPPED)


def test_that_a_set_of_functions_has_one_identity(tmp_path):
    """Functions in a set lie in another order each time they are made, and count all the same."""
    names = [f"f{number}" for number in range(9)]
    lines = [f"def {name}(x):\n    return x + {number}\n" for number, name in enumerate(names)]
    lines.append(f"ALL = {{{', '.join(names)}}}\n\ndef target(x):\n    return [f(x) for f in ALL]\n")
    source = "".join(lines)
    made = [load_module(tmp_path, source) for _ in range(8)]  # all alive: at addresses, and so in orders, of their own
    orders = {tuple(function.__name__ for function in module.ALL) for module in made}

    seen = {identity(module.target).digest.hex() for module in made}

    assert (len(orders) > 1, len(seen)) == (True, 1)
    assert hexed(tmp_path, source.replace("return x + 3", "return x + 30")) not in seen


def test_that_functions_without_source_have_an_identity():
    """Code that was typed in or executed from text counts by its bytecode."""
    made = []
    for body in ("x + 1", "x + 1", "x + 2"):
        space = {"__name__": "__main__"}
        exec(f"def target(x): return {body}", space)
        made.append(identity(space["target"]).digest)

    assert (made[0] == made[1], made[0] == made[2]) == (True, False)


def test_that_two_lambdas_on_one_line_differ(tmp_path):
    """Lambdas are told apart even where their place in the source cannot."""
    module = load_module(tmp_path, "a, b, c = (lambda x: x + 1), (lambda x: x + 2), (lambda x: x + 1)\n")

    assert identity(module.a).digest != identity(module.b).digest


def test_that_a_class_attribute_that_was_set_since_counts(tmp_path):
    """As a global does: rebound, edited in place or new; and the same value again is the same code again."""
    text = (
        "class Base:\n    depth = 1\n\n\nclass Config(Base):\n    scale = 1\n    table = [1]\n\n"
        "    def run(self):\n        return self.depth\n\n\ndef target(x):\n    return Config.scale\n"
    )
    module = load_module(tmp_path, text)
    seen = [identity(module.target).digest]
    for cls, name, value in (("Config", "scale", 2), ("Base", "depth", 2), ("Config", "new", 2)):
        setattr(getattr(module, cls), name, value)
        seen.append(identity(module.target).digest)
    module.Config.table.append(2)
    seen.append(identity(module.target).digest)

    assert len(set(seen)) == 5
    module.Config.scale, module.Base.depth, module.Config.table = 1, 1, [1]
    del module.Config.new
    assert identity(module.target).digest == seen[0]


def test_that_modules_of_the_users_are_followed_attribute_by_attribute(tmp_path):
    """``models.ode.solve`` reaches ``solve`` and not its neighbour."""
    target = "import models.ode\n\ndef target(x):\n    return models.ode.solve(x)\n"
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("")
    program = """
        import sys
        sys.path[:0] = [sys.argv[1]]
        import usercode
        from scalable_hpc.cache.code import identity
        print(identity(usercode.target).digest.hex())
    """
    (tmp_path / "usercode.py").write_text(target)
    seen = []
    for solve, neighbour in (("x", "x"), ("x", "-x"), ("-x", "x")):
        text = f"def solve(x):\n    return {solve}\n\n\ndef neighbour(x):\n    return {neighbour}\n"
        (tmp_path / "models" / "ode.py").write_text(text)
        seen.append(run_python(program, tmp_path, PYTHONDONTWRITEBYTECODE="1"))

    assert (seen[0] == seen[1], seen[0] == seen[2]) == (True, False)


def test_that_an_import_inside_a_function_is_followed_without_being_run(tmp_path):
    """Helpers imported where they are used count, with what they import, the same before and after the import."""
    package = tmp_path / "models"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "base.py").write_text("K = 1\n")
    (package / "ode.py").write_text("from .base import K\nprint('imported')\n")
    (tmp_path / "usercode.py").write_text("def target(x):\n    from models import ode\n    return ode.K\n")
    program = """
        import sys
        sys.path[:0] = [sys.argv[1]]
        import usercode
        from scalable_hpc.cache.code import identity
        if sys.argv[2] == "after":
            sys.stdout = None
            usercode.target(1)
            sys.stdout = sys.__stdout__
        print(identity(usercode.target).digest.hex())
    """
    before = run_python(program, tmp_path, "before", PYTHONDONTWRITEBYTECODE="1")
    after = run_python(program, tmp_path, "after", PYTHONDONTWRITEBYTECODE="1")
    (package / "base.py").write_text("K = 2\n")
    edited = run_python(program, tmp_path, "before", PYTHONDONTWRITEBYTECODE="1")

    assert (len(before), after, edited == before) == (64, before, False)


def test_that_a_library_counts_by_name_only():
    """Functions of the standard library and of installed packages are not followed."""
    import json

    assert code_of(json.dumps) == b"json.dumps"
    assert code_of(pytest.raises) == b"_pytest.raises.raises"


def test_that_modules_among_the_values_count(tmp_path):
    """A table of modules is the user's code where the modules are the user's, and names where they are not."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("")
    (tmp_path / "usercode.py").write_text(
        "import json, models.ode\nTABLE = {'a': models.ode, 'b': json}\ndef target(x):\n    return TABLE[x].run()\n"
    )
    program = """
        import sys
        sys.path[:0] = [sys.argv[1]]
        import usercode
        from scalable_hpc.cache.code import identity
        print(identity(usercode.target).digest.hex())
    """
    seen = []
    for body in ("1", "1  # one", "2"):
        (tmp_path / "models" / "ode.py").write_text(f"def run():\n    return {body}\n")
        seen.append(run_python(program, tmp_path, PYTHONDONTWRITEBYTECODE="1"))

    assert (seen[0] == seen[1], seen[0] == seen[2]) == (True, False)


def test_that_ignored_globals_do_not_count(tmp_path):
    """A global that is declared not to alter the result may change."""
    module = load_module(tmp_path, "SEEN = []\n\ndef target(x):\n    SEEN.append(x)\n    return x\n")
    before = identity(module.target, ["SEEN"])
    module.target(1)

    assert identity(module.target, ["SEEN"]).digest == before.digest
    assert before.ignored == {"SEEN"}


def test_that_a_global_without_an_encoding_is_named(tmp_path):
    """A connection, a generator or a handle among the globals makes the call uncacheable, and is named."""
    module = load_module(tmp_path, "numbers = (n for n in ())\n\ndef target(x):\n    return next(numbers)\n")

    with pytest.raises(Unencodable, match=r"generator.*'numbers' of usercode.target"):
        identity(module.target)


def test_that_locks_loggers_and_sentinels_are_no_obstacle(tmp_path):
    """Globals that do not alter a result need no encoding."""
    source = """
        import logging, threading
        LOCK, LOG, MISSING = threading.Lock(), logging.getLogger("x"), object()
        def target(x=MISSING):
            with LOCK:
                LOG.info("x")
                return x is MISSING
    """

    assert hexed(tmp_path, source) == hexed(tmp_path, source)


def test_that_methods_of_an_argument_count(tmp_path):
    """An instance of the user's class is its values and its class's code."""
    seen = [
        digest(load_module(tmp_path, f"class Model:\n    def run(self):\n        return {body}\n").Model(), code_of)
        for body in ("1", "1", "2")
    ]

    assert (seen[0] == seen[1], seen[0] == seen[2]) == (True, False)


def test_that_functions_as_arguments_count_by_their_code(tmp_path):
    """A function that is passed along is the same while its code, and what it reaches, is."""
    seen = [
        digest([load_module(tmp_path, f"def g(): return {n}\ndef f(x):\n    return g()\n").f], code_of)
        for n in (1, 1, 2)
    ]

    assert (seen[0] == seen[1], seen[0] == seen[2]) == (True, False)


def test_that_classes_made_in_functions_are_followed(tmp_path):
    """A local class counts by its methods and by what they close over."""
    source = """
        def make(n):
            class Local:
                def run(self):
                    return n
            return Local
        One, Two, Again = make(1), make(2), make(1)
    """
    module = load_module(tmp_path, source)

    assert identity(module.One).digest == identity(module.Again).digest != identity(module.Two).digest


def test_that_parts_say_what_changed(tmp_path):
    """Two identities differ in the parts of which the code differs."""
    before = dict(identity(load_module(tmp_path, BASE).target).parts)
    after = dict(identity(load_module(tmp_path, BASE.replace("RATE = 2", "RATE = 3")).target).parts)

    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}

    assert changed == {"usercode.helper: RATE"}


def test_that_a_script_and_its_pickled_copy_have_one_identity(tmp_path):
    """A function of ``__main__`` that travelled by value has the identity it had at home."""
    script = tmp_path / "driver.py"
    source = BASE
    for line in ("@functools.singledispatch", "@dispatch.register", "@functools.lru_cache"):
        source = source.replace(line, "")  # of ``__main__``, cloudpickle cannot carry these
    script.write_text(
        textwrap.dedent(source)
        + textwrap.dedent("""
        import sys, cloudpickle
        from scalable_hpc.cache.code import identity
        with open(sys.argv[1], "wb") as target_file:
            target_file.write(cloudpickle.dumps(target))
        print(identity(target).digest.hex())
    """)
    )
    import os
    import subprocess

    from tests.cache_support import ROOT

    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    home = subprocess.run(
        [sys.executable, script, tmp_path / "f.pickle"], env=env, capture_output=True, text=True, check=True
    ).stdout.strip()
    away = run_python(
        """
        import pickle, sys
        from scalable_hpc.cache.code import identity
        print(identity(pickle.load(open(sys.argv[1], "rb"))).digest.hex())
        """,
        tmp_path / "f.pickle",
    )

    assert away == home
