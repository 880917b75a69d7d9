"""The graph of the user's code that a function or class reaches, and the one digest that it comes to.

Followed: globals that are functions, classes, modules or values; closures and defaults; what decorators wrap;
methods, bases and class attributes; imports inside functions. A library's code is followed by name only: its version
belongs in ``depends_on=``.

The graph may have cycles (a function may refer to itself), so digests are found by refinement: each node starts as
the digest of its own content and is hashed again with its neighbours' digests until no two nodes that differ look
alike. The result depends neither on the order of visits nor on where in a cycle one starts.
"""

from __future__ import annotations

import enum
import logging
import sys
import threading
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Any

from blake3 import blake3

from scalable_hpc.cache.encode import Unencodable, type_name
from scalable_hpc.cache.members import CLASS_MACHINERY, is_data, is_written, members_of
from scalable_hpc.cache.owner import is_users_code, is_users_module, label_of, top_of, unwrapped
from scalable_hpc.cache.reach import Import, reach_of
from scalable_hpc.cache.source import class_source, code_digest
from scalable_hpc.cache.static import module_digest, resolve, submodules
from scalable_hpc.cache.told import ClassWord, Told, word_of
from scalable_hpc.cache.watches import ABSENT, Binding, Body, Content, Extent, Watch, cells_of, encoded, is_constant

_STATELESS: tuple[type, ...] = (
    type(threading.Lock()),
    type(threading.RLock()),
    threading.Condition,
    logging.Logger,
    logging.LoggerAdapter,
)
"""Globals that do not alter a result, and bare ``object()`` sentinels, count by their type alone."""
_PLAIN = (int, float, complex, bool, str, bytes, type(None))
_SHORT = 16
"""Hex digits that are enough to tell two versions of one part apart."""


@dataclass(frozen=True, slots=True)
class CodeIdentity:
    """What a function's results depend on besides its arguments."""

    digest: bytes
    parts: tuple[tuple[str, str], ...]
    """Name and digest (16 hex digits) of every function, class, module and constant reached, sorted."""
    watches: tuple[Watch, ...]
    ignored: frozenset[str] = frozenset()
    """The globals and closed-over names that were met and, as asked, left out."""

    def holds(self) -> bool:
        """Say whether nothing that the identity was made from has changed in this process."""
        return all([watch.holds() for watch in self.watches])  # noqa: C419 - a list is quicker than a generator


@dataclass(slots=True)
class _Node:
    """One function or class of the user's."""

    target: Any
    label: str
    content: bytearray = field(default_factory=bytearray)
    said: list[tuple[str, bytes]] = field(default_factory=list)
    """What ``content`` is made of."""
    edges: list[tuple[str, int]] = field(default_factory=list)

    def say(self, name: str, digest: bytes) -> None:
        """Add to what the node itself is; the name binds the digest to its place."""
        self.said.append((name, digest))
        raw = name.encode()
        self.content += len(raw).to_bytes(4, "little") + raw + len(digest).to_bytes(4, "little") + digest


class Graph:
    """All of the user's code that one function or class reaches."""

    def __init__(self, root: Any, ignored: frozenset[str]) -> None:
        self.root = unwrapped(root)
        self.ignored = ignored
        module = self.root.__globals__.get("__name__") if isinstance(self.root, FunctionType) else root.__module__
        self.home = top_of(module)
        self.nodes: dict[int, _Node] = {}
        self.watches: list[Watch] = []
        self.parts: dict[str, str] = {}
        self.met: set[str] = set()
        self.waiting: list[_Node] = []
        self.node_for(self.root)
        while self.waiting:
            self.describe(self.waiting.pop())

    def identity(self) -> CodeIdentity:
        """Refine the nodes' digests until those that differ look different, and hash the whole."""
        digests = {key: blake3(node.content).digest() for key, node in self.nodes.items()}
        kinds, rounds = 0, 0
        while kinds != (kinds := len(set(digests.values()))):
            rounds += 1
            digests = {key: self.refined(node, digests[key], digests) for key, node in self.nodes.items()}
        whole = blake3(rounds.to_bytes(4, "little") + digests[id(self.root)])
        for digest in sorted(set(digests.values())):
            whole.update(digest)
        parts = tuple(sorted(self.parts.items()))
        return CodeIdentity(whole.digest(), parts, tuple(self.watches), frozenset(self.met))

    def refined(self, node: _Node, own: bytes, digests: Mapping[int, bytes]) -> bytes:
        """Return a node's digest, made from its own and its neighbours'."""
        hasher = blake3(own)
        for name, digest in sorted((name, digests[target]) for name, target in node.edges):
            hasher.update(name.encode() + b"\0" + digest)
        return hasher.digest()

    def node_for(self, target: Any) -> int:
        """Return the node of a function or class, new or known."""
        key = id(target)
        if key not in self.nodes:
            self.nodes[key] = _Node(target, label_of(target))
            self.waiting.append(self.nodes[key])
        return key

    def describe(self, node: _Node) -> None:
        """Fill in what a node is and refers to."""
        if isinstance(node.target, type):
            self.describe_class(node, node.target)
        elif is_users_code(node.target, self.home) and not hasattr(node.target, "registry"):
            self.describe_function(node, node.target)
        else:
            self.describe_dispatcher(node, node.target)

    def describe_function(self, node: _Node, function: FunctionType) -> None:
        """Follow code, defaults, closure and globals."""
        code = function.__code__
        cells = cells_of(function)
        self.watches.append(Body(function, code, function.__defaults__, cells))
        self.say(node, "", code_digest(code))
        for position, value in enumerate(function.__defaults__ or ()):
            self.value(node, f"default {position}", value)
        for name, value in sorted((function.__kwdefaults__ or {}).items()):
            self.watches.append(Binding(function.__kwdefaults__ or {}, name, value))
            self.value(node, f"default {name}", value)
        for name, value in zip(code.co_freevars, cells, strict=True):
            if name in self.ignored:
                self.met.add(name)
            elif value is not ABSENT:
                self.value(node, f"closure {name}", value)
        self.reach(node, code, function.__globals__)

    def describe_dispatcher(self, node: _Node, function: Any) -> None:
        """Follow every implementation of a ``functools.singledispatch`` function."""
        self.watches.append(Extent(function.registry, tuple(function.registry)))
        for cls, implementation in function.registry.items():
            self.watches.append(Binding(function.registry, cls, implementation))
            self.value(node, f"for {type_name(cls)}", implementation)

    def describe_class(self, node: _Node, cls: type) -> None:
        """Follow the class statement where its source is true, else what the class holds at run time."""
        word = word_of(cls)
        if word is not None:
            self.take_word(node, cls, word)
            return
        methods = {name: value for name, value in vars(cls).items() if isinstance(value, FunctionType)}
        for name, method in methods.items():
            self.watches.append(Binding(vars(cls), name, method))
        for position, base in enumerate((*cls.__bases__, type(cls))):
            self.value(node, f"base {position}", base)
        own = [method for method in methods.values() if is_written(method, self.home)]
        module = sys.modules.get(cls.__module__)
        namespace = own[0].__globals__ if own else vars(module) if module else {}
        filename = own[0].__code__.co_filename if own else getattr(module, "__file__", None)
        found = None
        if filename and "<locals>" not in cls.__qualname__:
            found = class_source(cls.__qualname__, filename, [method.__code__ for method in own])
        if found is None:
            self.describe_members(node, cls)
            return
        digest, body = found
        self.say(node, "", digest)
        self.reach(node, body, namespace)
        self.data(node, cls)

    def data(self, node: _Node, cls: type) -> None:
        """Take in a class's data as they are: somebody may have set them since the class statement was run."""
        self.watches.append(Extent(vars(cls), tuple(vars(cls))))
        if isinstance(cls, enum.EnumMeta):  # its members are the statement's, and no two Pythons keep them alike
            return
        for name, value in sorted(vars(cls).items()):
            if is_data(name, value):
                self.watches.append(Binding(vars(cls), name, value))
                self.member(node, f"value {name}", value)

    def take_word(self, node: _Node, cls: type, word: ClassWord) -> None:
        """Take in what the class's own process has found, but for what is ignored here."""
        self.watches.append(Told(cls, word))
        for name, digest in word.said:
            if name.partition(".")[0] in self.ignored:
                self.met.add(name.partition(".")[0])
            else:
                self.say(node, name, digest)
        for name, target in word.edges:
            if name.partition("#")[0].partition(".")[0] not in self.ignored:
                node.edges.append((name, self.node_for(target)))

    def word(self) -> ClassWord:
        """Return what the root, a class, is made of, for a process where it is made anew."""
        node = self.nodes[id(self.root)]
        return ClassWord(tuple(node.said), tuple((name, self.nodes[target].target) for name, target in node.edges))

    def describe_members(self, node: _Node, cls: type) -> None:
        """Follow a class's attributes one by one."""
        for name, value in sorted(vars(cls).items()):
            if name in CLASS_MACHINERY or isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType):
                continue
            self.watches.append(Binding(vars(cls), name, value))
            for suffix, member in members_of(value):
                self.member(node, f"{name}{suffix}", member)

    def member(self, node: _Node, where: str, value: object) -> None:
        """Take in one attribute of a class; metaclasses leave things there that have no encoding."""
        try:
            self.value(node, where, value)
        except Unencodable:
            self.say(node, where, type_name(type(value)).encode())

    def reach(self, node: _Node, code: types.CodeType, namespace: Mapping[str, Any]) -> None:
        """Follow the global names and imports of a piece of code."""
        reach = reach_of(code)
        for path in reach.paths:
            if path[0] in self.ignored:
                self.met.add(path[0])
            else:
                self.path(node, path, namespace)
        for statement in reach.imports:
            self.local_import(node, statement, namespace)

    def path(self, node: _Node, path: tuple[str, ...], namespace: Mapping[str, Any]) -> None:
        """Follow a dotted name through the user's modules to what it stands for."""
        value: Any = None
        for depth, name in enumerate(path, start=1):
            outer, value = value, namespace.get(name, ABSENT)
            self.watches.append(Binding(namespace, name, value))
            if value is ABSENT:
                # a builtin or not yet defined; in a module, perhaps a submodule that is not loaded yet
                if isinstance(outer, ModuleType):
                    self.module(node, outer.__name__)
                return
            if not isinstance(value, ModuleType):
                self.value(node, ".".join(path[:depth]), value)
                return
            if not is_users_module(value, self.home):
                return
            namespace = vars(value)
        self.module(node, value.__name__)

    def local_import(self, node: _Node, statement: Import, namespace: Mapping[str, Any]) -> None:
        """Follow an import inside a function, without running it."""
        package = namespace.get("__package__") or ""
        name = resolve(package, statement.module, statement.level)
        if name:
            for module in (name, *submodules(name, statement.names, self.home)):
                self.module(node, module)

    def module(self, node: _Node, name: str) -> None:
        """Take in a whole module of the user's, by its source files."""
        static = module_digest(name, self.home)
        self.watches.extend(static.files)
        self.say(node, f"module {name}", static.digest)

    def value(self, node: _Node, where: str, value: object) -> None:
        """Take in a constant, and whatever code it holds."""
        if isinstance(value, ModuleType):
            if is_users_module(value, self.home):
                self.module(node, value.__name__)
            return
        if type(value) is object or isinstance(value, _STATELESS):
            self.say(node, where, type_name(type(value)).encode())
            return
        try:
            digest, references = encoded(value, self.home)
        except Unencodable as problem:
            raise problem.under(f"{where!r} of {node.label}") from problem
        if not is_constant(value):
            self.watches.append(Content(value, self.home, digest, tuple(code for _, code in references)))
        for position, (ordered, code) in enumerate(references):
            node.edges.append((f"{where}#{position if ordered else ''}", self.node_for(code)))
        self.say(node, where, digest)

    def say(self, node: _Node, where: str, digest: bytes) -> None:
        """Add to a node's content, and to the parts that are told apart when a key has changed."""
        node.say(where, digest)
        name = f"{node.label}: {where}" if where else node.label
        self.parts[name] = blake3(digest).hexdigest()[:_SHORT]
