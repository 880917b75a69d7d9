"""What a piece of code says, as a digest: its syntax where the source is to be had and true, else its bytecode.

Comments, formatting, docstrings and the ``@cacheable`` line itself do not count. A source is true when compiling it
gives the very code that is loaded: a file that was edited after it was imported is not what will run.

Rule 1: the digest of the same source is the same on every Python that this package supports.
"""

from __future__ import annotations

import ast
import functools
import linecache
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

from scalable_hpc.cache.encode import Encoder
from scalable_hpc.cache.reach import nested

FILES_KEPT = 32
"""Parsed files kept at hand: they are needed only while the functions of one package are first named."""

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
_SKIPPED_FIELDS = frozenset({"ctx", "type_comment", "kind", "type_ignores"})
_BY_SELF = "cacheable"


def code_digest(code: CodeType) -> bytes:
    """Return the digest (32 bytes) of a function's own code."""
    key = (code.co_filename, code)
    known = _digests.get(key)
    if known is None:
        node = _true_node(code)
        known = _digests[key] = _bytecode_digest(code) if node is None else _syntax_digest(node)
    return known


def remember(code: CodeType, digest: bytes) -> None:
    """Take somebody's word for the digest of code that came here without its source: out of a notebook, say."""
    _digests.setdefault((code.co_filename, code), digest)


def class_source(qualname: str, filename: str, methods: list[CodeType]) -> tuple[bytes, CodeType] | None:
    """Return the digest of a class statement and the code of its body; None unless all methods prove it true."""
    for fresh in (False, True):
        parsed = _parsed(filename, fresh=fresh)
        if parsed is None:
            continue
        body = parsed.classes.get(qualname)
        if body is not None and body[1] is not None and all(method in body[1].co_consts for method in methods):
            return _syntax_digest(body[0]), body[1]
    return None


def file_imports(path: Path) -> tuple[bytes, list[tuple[str, int, tuple[str, ...]]]] | None:
    """Return the digest of a whole source file and every import statement in it; None if it cannot be parsed."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    imports: list[tuple[str, int, tuple[str, ...]]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [(alias.name, 0, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imports.append((node.module or "", node.level, tuple(alias.name for alias in node.names)))
    return _syntax_digest(tree), imports


_digests: dict[tuple[str, CodeType], bytes] = {}


@dataclass(frozen=True, slots=True)
class _Parsed:
    """One source file: its definitions and the code that they compile to."""

    functions: dict[tuple[int, str], list[_Definition]]
    codes: frozenset[CodeType]
    classes: dict[str, tuple[ast.ClassDef, CodeType | None]]


def _true_node(code: CodeType) -> _Definition | None:
    for fresh in (False, True):
        parsed = _parsed(code.co_filename, fresh=fresh)
        if parsed is not None and code in parsed.codes:
            nodes = parsed.functions.get((code.co_firstlineno, code.co_name), [])
            # two lambdas on one line cannot be told apart by place: the bytecode can
            return nodes[0] if len(nodes) == 1 else None
    return None


def _parsed(filename: str, *, fresh: bool) -> _Parsed | None:
    if fresh:
        linecache.checkcache(filename)
    text = "".join(linecache.getlines(filename))
    return _parse(filename, text) if text else None


@functools.lru_cache(maxsize=FILES_KEPT)
def _parse(filename: str, text: str) -> _Parsed | None:
    try:
        tree = ast.parse(text)
        top = compile(text, filename, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):
        return None
    functions: dict[tuple[int, str], list[_Definition]] = {}
    classes: dict[str, tuple[ast.ClassDef, CodeType | None]] = {}
    bodies = {(part.co_firstlineno, part.co_name): part for part in nested(top)}
    for qualname, node in _definitions(tree, ""):
        line = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
        if isinstance(node, ast.ClassDef):
            classes[qualname] = (node, bodies.get((line, node.name)))
        else:
            name = getattr(node, "name", "<lambda>")
            functions.setdefault((line, name), []).append(node)
    return _Parsed(functions, frozenset(nested(top)), classes)


def _definitions(node: ast.AST, prefix: str) -> Iterator[tuple[str, _Definition]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield prefix + child.name, child
            yield from _definitions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + child.name, child
            yield from _definitions(child, f"{prefix}{child.name}.<locals>.")
        elif isinstance(child, ast.Lambda):
            yield prefix + "<lambda>", child
            yield from _definitions(child, f"{prefix}<lambda>.<locals>.")
        else:
            yield from _definitions(child, prefix)


def _syntax_digest(node: ast.AST) -> bytes:
    encoder = Encoder(_no_code)
    _add_node(encoder, node)
    return encoder.digest()


def _add_node(encoder: Encoder, value: object) -> None:
    if isinstance(value, ast.AST):
        encoder.text(b"n", type(value).__name__)
        for name, field in ast.iter_fields(value):
            kept = _kept(value, name, field)
            # fields that newer grammars added are absent in older ones, and empty where unused
            if name not in _SKIPPED_FIELDS and kept is not None and kept != []:
                encoder.text(b"k", name)
                _add_node(encoder, kept)
        encoder.out += b"."
    elif isinstance(value, list):
        encoder.out += b"["
        for item in value:
            _add_node(encoder, item)
        encoder.out += b"]"
    else:
        encoder.add(value)


def _kept(node: ast.AST, name: str, field: object) -> object:
    if not isinstance(field, list):
        return field
    if isinstance(node, ast.JoinedStr):
        # some Pythons of the 3.12 series end a nested format specification with an empty piece
        return [piece for piece in field if not (isinstance(piece, ast.Constant) and piece.value == "")]
    if name == "decorator_list":
        return [decorator for decorator in field if not _is_own_decorator(decorator)]
    documented = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module)
    if name == "body" and documented and field and _is_text(field[0]):
        return field[1:]
    return field


def _is_own_decorator(node: ast.expr) -> bool:
    called = node.func if isinstance(node, ast.Call) else node
    return getattr(called, "id", getattr(called, "attr", None)) == _BY_SELF


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _bytecode_digest(code: CodeType) -> bytes:
    encoder = Encoder(_no_code)
    _add_code(encoder, code)
    return encoder.digest()


def _add_code(encoder: Encoder, code: CodeType) -> None:
    encoder.text(b"n", code.co_name)
    encoder.add((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags))
    encoder.add((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars))
    encoder.buffer(b"b", code.co_code)
    encoder.buffer(b"b", getattr(code, "co_exceptiontable", b""))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _add_code(encoder, constant)
        else:
            encoder.add(constant)


def _no_code(code: object) -> bytes:
    raise TypeError(f"code refers to no function by value: {code!r}")
