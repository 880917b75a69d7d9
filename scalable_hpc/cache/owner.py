"""Whose code is it: the user's own, which a key must follow, or a library's, which ``depends_on=`` names.

Rule 1: nothing is imported to find out: modules that are not loaded are located, never run.
"""

from __future__ import annotations

import functools
import importlib.util
import site
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

OURS = "scalable_hpc"
_LIBRARY_FOLDERS = frozenset({"site-packages", "dist-packages"})
_EXTENSIONS = (".py", ".pyw")


@functools.cache
def _library_roots() -> tuple[str, ...]:
    named = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    user = site.getusersitepackages() if site.ENABLE_USER_SITE else None
    return tuple(str(Path(folder).resolve()) + "/" for folder in (*named, *site.getsitepackages(), user) if folder)


@functools.cache
def _lies_in_library(filename: str) -> bool:
    if _LIBRARY_FOLDERS.intersection(Path(filename).parts):
        return True
    return str(Path(filename).resolve()).startswith(_library_roots())


def top_of(module_name: str | None) -> str:
    """Return the top-level package of a dotted module name."""
    return (module_name or "").partition(".")[0]


def is_users(module_name: str | None, filename: str | None, home: str) -> bool:
    """Say whether code is the user's own.

    It is when it comes from no library folder, or from the same top-level package as the function that is being
    named (``home``): a user's package that was installed is still the user's.
    """
    top = top_of(module_name)
    if top == "__main__":
        return True
    if top in sys.stdlib_module_names or top == OURS:
        return False
    if home and top == home:
        return True
    if filename is not None and filename.startswith("<") and not filename.startswith("<frozen"):
        # typed in, or made by exec: it belongs where its module does
        filename = getattr(sys.modules.get(module_name or ""), "__file__", None)
        return filename is None or not _lies_in_library(filename)
    return filename is not None and not _lies_in_library(filename)


def is_users_module(module: ModuleType, home: str) -> bool:
    """Say whether a loaded module is the user's own."""
    return is_users(module.__name__, getattr(module, "__file__", None), home)


def source_of(module_name: str, home: str) -> Path | None:
    """Return the source file of a module of the user's own by its dotted name, loaded or not; None for any other."""
    if top_of(module_name) in sys.stdlib_module_names or top_of(module_name) == OURS:
        return None
    loaded = sys.modules.get(module_name)
    origin = getattr(loaded, "__file__", None) if loaded is not None else _origin(module_name)
    if origin is None or not origin.endswith(_EXTENSIONS) or not is_users(module_name, origin, home):
        return None
    return Path(origin)


def _origin(module_name: str) -> str | None:
    """Return where an unloaded module would be loaded from, without running its parent packages."""
    path: list[str] | None = None
    spec = None
    parts = module_name.split(".")
    for depth in range(1, len(parts) + 1):
        spec = _find(".".join(parts[:depth]), path)
        if spec is None:
            return None
        found = spec.submodule_search_locations
        path = None if found is None else list(found)
        if path is None and depth < len(parts):
            return None
    return spec.origin if spec is not None else None


def _find(name: str, path: list[str] | None) -> importlib.machinery.ModuleSpec | None:
    for finder in sys.meta_path:
        find_spec = getattr(finder, "find_spec", None)
        spec: importlib.machinery.ModuleSpec | None = find_spec(name, path) if find_spec else None
        if spec is not None:
            return spec
    return None


def is_users_code(target: Any, home: str = "") -> bool:
    """Say whether a function or class is the user's own, or dispatches to what may be."""
    if isinstance(target, FunctionType):
        # not __module__: functools.wraps copies the wrapped function's
        if is_users(target.__globals__.get("__name__"), target.__code__.co_filename, home):
            return True
        return isinstance(getattr(target, "registry", None), Mapping)
    if isinstance(target, type):
        module = sys.modules.get(target.__module__)
        return is_users(target.__module__, getattr(module, "__file__", None), home)
    return False


def label_of(target: Any) -> str:
    """Return the name by which people know a function or class."""
    module = getattr(target, "__module__", None) or "builtins"
    return f"{module}.{getattr(target, '__qualname__', type(target).__qualname__)}"


def unwrapped(target: Any) -> Any:
    """Return the user's function that a library's wrapper, or our own, stands for; anything else as it is."""
    while isinstance(target, FunctionType) and not is_users_code(target) and not hasattr(target, "registry"):
        inner = getattr(target, "__wrapped__", None)
        if inner is None:
            break
        target = inner
    return target
