"""Laws of what a piece of code refers to outside itself."""

from __future__ import annotations

from scalable_hpc.cache.reach import Import, reach_of


def reach(source):
    return reach_of(compile(source, "<test>", "exec"))


def test_that_globals_are_told_from_locals_and_attributes():
    """Only names that are looked up outside count, with the attributes read from them at once."""

    def code(argument):
        local = models.ode.solve(argument)  # noqa: F821
        return [helper(item) + local.size for item in argument.helper]  # noqa: F821

    assert reach_of(code.__code__).paths == (("helper",), ("models", "ode", "solve"))


def test_that_nested_functions_count():
    """Lambdas, comprehensions and inner functions refer to the same outside."""

    def code():
        def inner():
            return lambda: deep() + 1  # noqa: F821

        return inner

    assert reach_of(code.__code__).paths == (("deep",),)


def test_that_imports_are_seen_with_their_level_and_names():
    """Imports inside a function are told by module, dots and what is taken."""
    found = reach("def f():\n import a.b\n from c import d, e as g\n from . import h\n from ..i import j\n").imports

    assert found == (
        Import("", 1, ("h",)), Import("a.b", 0, ()), Import("c", 0, ("d", "e")), Import("i", 2, ("j",)),
    )  # fmt: skip


def test_that_many_names_are_no_obstacle():
    """Code with more names than one byte can count is read like any other."""
    lines = "".join(f"    x{number} = module.name{number}.tail{number}\n" for number in range(400))
    found = reach(f"def f():\n{lines}").paths

    assert {("module", f"name{number}", f"tail{number}") for number in range(400)} <= set(found)
