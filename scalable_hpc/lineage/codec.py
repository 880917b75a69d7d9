"""Events to JSON and back, generic over the dataclasses of ``model.events``.

Rule 1: pure. Values that equal their field's default are left out, and come back as that default; fields that this
release does not know are ignored, kinds that it does not know are not.
Rule 2: bytes travel as base64 (no event of ours holds any large ones: payloads lie in their pack).
"""

from __future__ import annotations

import base64
import re
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from scalable_hpc.model.events import Event

Coder = Callable[[Any], Any]


def kind_of(cls: type) -> str:
    """Return the journal's word for an event class: ``task_submitted`` for TaskSubmitted."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


KINDS: dict[str, type[Any]] = {kind_of(cls): cls for cls in typing.get_args(Event)}
_KIND_OF = {cls: kind for kind, cls in KINDS.items()}
_ENCODERS: dict[type[Any], Coder] = {}
_DECODERS: dict[type[Any], Coder] = {}
"""Made on first use: reading type hints costs more than a thousand events."""


def encode_event(event: Event) -> dict[str, Any]:
    """Return the event as ``{"e": kind, "t": time, ...}``, ready for JSON."""
    cls: type[Any] = type(event)
    return {"e": _KIND_OF[cls], "t": event.at, **_encoder_of(cls)(event)}


def decode_event(line: dict[str, Any]) -> Event:
    """Return the event of a journal line, which is used up.

    Raises:
        ValueError: its kind is unknown, or a field is missing or of another type.
    """
    kind = line.get("e")
    cls = KINDS.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise ValueError(f"unknown kind of event: {kind!r}")
    try:
        line["at"] = line.pop("t")
        del line["e"]
        event: Event = _decoder_of(cls)(line)
    except (KeyError, TypeError, AttributeError) as err:
        raise ValueError(f"not a {kind} event: {err!r}") from err
    return event


def _encoder_of(cls: type[Any]) -> Coder:
    if cls not in _ENCODERS:
        _ENCODERS[cls] = _make_encoder(cls)
    return _ENCODERS[cls]


def _decoder_of(cls: type[Any]) -> Coder:
    if cls not in _DECODERS:
        _DECODERS[cls] = _make_decoder(cls)
    return _DECODERS[cls]


def _hints(cls: type[Any]) -> dict[str, Any]:
    """Return the types of the fields; what only ``__init__`` takes is none, and Python 3.10 stumbles over it."""
    written = types.SimpleNamespace(__annotations__={field.name: field.type for field in fields(cls)})
    return typing.get_type_hints(written, vars(sys.modules[cls.__module__]))


def _make_encoder(cls: type[Any]) -> Coder:
    hints = _hints(cls)
    plan = []
    for field in fields(cls):
        if field.name == "at":
            continue
        encode = _encoder(hints[field.name])
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        plan.append((field.name, default, encode))

    def encode_record(record: Any) -> dict[str, Any]:
        found = {}
        for name, default, encode in plan:
            value = getattr(record, name)
            if value is not default and value != default:
                found[name] = value if encode is None else encode(value)
        return found

    return encode_record


def _make_decoder(cls: type[Any]) -> Coder:
    hints = _hints(cls)
    plan = {field.name: _decoder(hints[field.name]) for field in fields(cls)}
    known = frozenset(plan)
    converted = [(name, decode) for name, decode in plan.items() if decode is not None]

    def decode_record(line: dict[str, Any]) -> Any:
        for name, decode in converted:
            if name in line:
                line[name] = decode(line[name])
        if line.keys() <= known:
            return cls(**line)
        return cls(**{name: value for name, value in line.items() if name in known})

    return decode_record


def _encoder(hint: Any) -> Coder | None:
    """Return what turns a value of that type into JSON; None: it is JSON already."""
    hint = _required(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        encode = _encoder_of(hint)
        return encode if hint not in _KIND_OF else lambda event: {"at": event.at, **encode(event)}
    if hint is bytes:
        return lambda value: base64.b64encode(value).decode("ascii")
    return None  # tuples of JSON values become lists by themselves


def _decoder(hint: Any) -> Coder | None:
    """Return what turns JSON into a value of that type; None: it is one already."""
    optional, hint = hint, _required(hint)
    decode: Coder | None = None
    if isinstance(hint, type) and is_dataclass(hint):
        decode = _decoder_of(hint)
    elif hint is bytes:
        decode = base64.b64decode
    elif typing.get_origin(hint) is tuple:
        inner = _decoder(typing.get_args(hint)[0])
        decode = tuple if inner is None else (lambda values: tuple(inner(value) for value in values))
    if decode is None or optional is hint:
        return decode
    present = decode
    return lambda value: None if value is None else present(value)


def _required(hint: Any) -> Any:
    """Return ``X`` of ``X | None``."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        given = [part for part in typing.get_args(hint) if part is not type(None)]
        return given[0] if len(given) == 1 else hint
    return hint
