"""One submitted call on its way to becoming a task: options checked, arguments pickled, key computed."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from scalable_hpc.cache.encode import Unencodable
from scalable_hpc.cache.keys import call_key
from scalable_hpc.config.check import nearest
from scalable_hpc.model.tasks import Payload, ResultRef, RetryPolicy
from scalable_hpc.model.units import parse_memory, parse_share, parse_walltime
from scalable_hpc.pickling import dumps

_LABEL_LENGTH = 120


class _Shortened(reprlib.Repr):
    """Shows the calls whose results are awaited by their names, however deep they are nested."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 40
        self.maxlevel = 2

    def repr_ResultRef(self, ref: ResultRef, _level: int) -> str:  # noqa: N802 - reprlib finds it by the type's name
        return f"<{ref.task_id}>"


_REPR = _Shortened()


@dataclass(frozen=True, slots=True)
class Options:
    """The keyword arguments of ``submit`` and ``map`` that are ours; None: as the manifest says."""

    task: str | None = None
    tag: str | None = None
    retries: int | None = None
    retry: RetryPolicy | None = None
    timeout: float | str | None = None
    expected_runtime: float | str | None = None
    cpus: int | None = None
    memory: int | str | None = None
    gpus: int | None = None
    priority: int = 0
    key: str | None = None
    pure: bool | None = None
    verify_pure: float | str | None = None
    checkpoints: bool | None = None
    persist: bool | None = None

    def __post_init__(self) -> None:
        for name in ("task", "tag", "key"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value):
                raise TypeError(f"{name} must be a non-empty string: {value!r}")
        lowest = {"retries": 0, "cpus": 1, "gpus": 0}
        for name, least in lowest.items():
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise ValueError(f"{name} must be a whole number of at least {least}: {value!r}")
        if self.retry is not None and not isinstance(self.retry, RetryPolicy):
            raise TypeError(f"retry must be a RetryPolicy: {self.retry!r}")
        if isinstance(self.priority, bool) or not isinstance(self.priority, int):
            raise TypeError(f"priority must be a whole number: {self.priority!r}")
        if not isinstance(self.checkpoints, bool | None):
            raise TypeError(f"checkpoints must be True or False: {self.checkpoints!r}")
        self._check_results()
        _ = self.timeout_s, self.expected_runtime_s, self.memory_bytes  # wrong ones are refused here, not later

    def _check_results(self) -> None:
        """Refuse wishes for what becomes of a result that cannot be had together."""
        if self.pure is not None and not isinstance(self.pure, bool):
            raise TypeError(f"pure must be True or False: {self.pure!r}")
        if not isinstance(self.persist, bool | None):
            raise TypeError(f"persist must be True or False: {self.persist!r}")
        if self.persist is False and self.key is not None:
            raise ValueError(f"a call with a key is stored under it, persist=False is not for it: {self.key!r}")
        if self.persist is False and self.pure is False:
            raise ValueError(f"persist=False may compute a call again, which pure=False forbids: {self.pure!r}")
        if self.verify_share is not None and self.pure is False:
            raise ValueError(f"verify_pure is for pure calls, not with pure=False: {self.verify_pure!r}")

    @property
    def verify_share(self) -> float | None:
        """``verify_pure`` as a share of the calls (0 to 1)."""
        return None if self.verify_pure is None else parse_share(self.verify_pure)

    @property
    def timeout_s(self) -> float | None:
        """``timeout`` in seconds."""
        return _seconds("timeout", self.timeout)

    @property
    def expected_runtime_s(self) -> float | None:
        """``expected_runtime`` in seconds."""
        return _seconds("expected_runtime", self.expected_runtime)

    @property
    def memory_bytes(self) -> int | None:
        """``memory`` in bytes."""
        if isinstance(self.memory, str):
            return parse_memory(self.memory)
        if self.memory is not None and (isinstance(self.memory, bool) or self.memory <= 0):
            raise ValueError(f"memory must be more than zero bytes: {self.memory!r}")
        return self.memory


def _seconds(name: str, value: float | str | None) -> float | None:
    if isinstance(value, str):
        return float(parse_walltime(value))
    if value is not None and (isinstance(value, bool) or not value > 0):
        raise ValueError(f"{name} must be more than zero seconds: {value!r}")
    return value


@dataclass(slots=True)
class Call:
    """A call with everything that can be said of it before the run names it."""

    name: str
    function: Payload
    arguments: Payload
    options: Options
    label: str
    cache_key: str | None = None
    """The key of a cacheable call (64 hex digits)."""
    identity: str = ""
    """What equal calls that are not pure have in common (64 hex digits); empty: not known but by their bytes."""
    refresh: bool = False
    warning: str = ""
    """Why a cacheable call runs uncached."""
    ancestors: tuple[ResultRef, ...] = ()

    @property
    def may_be_known(self) -> bool:
        """Whether an equal call may have been made before: it has a name of its own."""
        return self.cache_key is not None or self.options.key is not None


def pickle_function(fn: Callable[..., Any]) -> Payload:
    """Pickle a function: by name where workers can import it, else by value.

    Raises:
        TypeError: it is not callable, or holds what cannot be pickled.
    """
    if not callable(fn):
        raise TypeError(f"not callable: {fn!r}")
    return _payload(fn, f"the function {call_name(fn)!r}")


def check_names(fn: Callable[..., Any], names: Iterable[str]) -> None:
    """Refuse keyword arguments that are neither options of ours nor parameters of the function, before it is sent.

    Raises:
        TypeError: there is one.
    """
    names = list(names)
    declared = getattr(fn, "__scalable_cache__", None)
    try:
        # What wraps a function may take more than the function does.
        signature = inspect.signature(fn if declared is None else declared.function, follow_wrapped=False)
    except (TypeError, ValueError):  # a callable that does not tell
        return
    parameters = signature.parameters.values()
    if not names or any(each.kind is each.VAR_KEYWORD for each in parameters):
        return
    known = [each.name for each in parameters if each.kind in {each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY}]
    for name in names:
        if name not in known:
            raise TypeError(
                f"{call_name(fn)}() has no parameter '{name}', nor is that an option of submit and map"
                f"{nearest(name, [*known, *Options.__dataclass_fields__])}"
            )


def pickle_rule(rule: Callable[[BaseException], bool | None] | str) -> Payload:
    """Pickle what a retry policy asks about exceptions: a function, or the name of one.

    Raises:
        TypeError: it holds what cannot be pickled.
    """
    return _payload(rule, f"worth_retrying={rule!r}")


def make_call(
    fn: Callable[..., Any],
    function: Payload,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: Options,
    *,
    cache: bool | None = None,
    pure: bool = True,
) -> Call:
    """Return the Call for ``fn(*args, **kwargs)``, futures already replaced by their ResultRefs.

    Args:
        fn: the function.
        function: what ``pickle_function`` made of it.
        args: positional arguments.
        kwargs: keyword arguments.
        options: what is ours.
        cache: the manifest's word: True caches a function that is not ``@cacheable`` too, False caches none.
        pure: False: it is not cached whatever else is said.

    Raises:
        TypeError: the arguments cannot be pickled, or do not fit a cacheable function's signature or types.
    """
    label = _label(call_name(fn), args, kwargs)
    call = Call(call_name(fn), function, _payload((args, kwargs), f"the arguments of {label}"), options, label)
    if not pure:
        call.identity = _identity(fn, args, kwargs)
        return call
    declared = getattr(fn, "__scalable_cache__", None)
    if options.key is not None or options.persist is False or cache is False or (declared is None and cache is None):
        return call
    try:
        if declared is None:
            call.cache_key = call_key(fn, args, kwargs).hex
        elif declared.store:
            call.cache_key = declared.call_key(args, kwargs).hex
            call.refresh = declared.refresh
    except Unencodable as why:
        call.warning = f"{call.name} runs uncached: {why}"
    return call


def _identity(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Tell equal calls by function, code and arguments; pickled bytes are not the same in every process."""
    try:
        return call_key(getattr(fn, "__wrapped__", fn), args, kwargs).hex
    except (Unencodable, TypeError, ValueError):
        return ""


def _payload(value: Any, what: str) -> Payload:
    try:
        data = dumps(value)
    except Exception as err:
        raise TypeError(f"{what} cannot be sent to a worker: {err}") from err
    return Payload(digest=blake3(data).hexdigest(), size=len(data), inline=data)


def call_name(fn: Callable[..., Any]) -> str:
    """Return the name that a call of this function goes by."""
    inner = fn
    while hasattr(inner, "func"):  # functools.partial and the like
        inner = inner.func
    name = getattr(inner, "__name__", type(inner).__name__)
    return "lambda" if name == "<lambda>" else name


def _label(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    shown = [show(value) for value in args] + [f"{key}={show(value)}" for key, value in kwargs.items()]
    text = f"{name}({', '.join(shown)})"
    return text if len(text) <= _LABEL_LENGTH else f"{text[: _LABEL_LENGTH - 4]}...)"


def show(value: Any) -> str:
    """Return a value as a label shows it: shortened, and never an error."""
    try:
        return _REPR.repr(value)
    except Exception:  # noqa: BLE001 - a user's __repr__ may raise anything; a label is not worth a task
        return f"<{type(value).__name__}>"
