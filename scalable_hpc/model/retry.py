"""How often and how soon a task is tried again, and its user's own rules about exceptions: all of it plain data.

Rule 1: a policy outlives its driver in the run's journal, so exception classes are kept by name. The one thing in it
that is code, ``worth_retrying``, is pickled apart (``TaskSpec.rule``) and runs in the slot, where the exception lives.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Mapping
from dataclasses import InitVar, dataclass
from enum import Enum


class Verdict(Enum):
    """What the evidence means."""

    EXPECTED = "expected"
    INFRASTRUCTURE = "infrastructure"
    RESOURCE = "resource"
    TRANSIENT = "transient"
    PERMANENT = "permanent"
    KILLER = "killer"
    UNKNOWN = "unknown"


LIMITABLE = (
    Verdict.INFRASTRUCTURE,
    Verdict.RESOURCE,
    Verdict.TRANSIENT,
    Verdict.PERMANENT,
    Verdict.UNKNOWN,
    Verdict.EXPECTED,
)
"""A KILLER has its two deaths. Of EXPECTED endings those are counted in which the task handed itself back."""

ExceptionClass = type[BaseException] | str
"""A class, or its name: ``package.module.Class``; modules in the middle may be left out, ``builtins.`` too."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon a task is tried again.

    The wait before attempt n+1 (n counted failures so far) is uniform in
    ``[0, min(cap_s, base_s * factor ** (n - 1))]`` with full jitter, that bound itself without.

    Args:
        attempts: instead of ``retries``: how many there may be in all.

    Raises:
        ValueError: a number is out of range, a name is no class's, a class is both transient and permanent.
        TypeError: a class is not one of exceptions, or ``worth_retrying`` cannot be called.
    """

    retries: int = 0
    """Extra attempts after charged failures; uncharged endings never count."""
    base_s: float = 1.0
    factor: float = 2.0
    cap_s: float = 60.0
    jitter: bool = True
    max_elapsed_s: float | None = None
    infrastructure_limit: int = 20
    """Uncharged endings after which a task is given up, to bound a livelock; so are as many times in a row that it
    handed itself back without a change in its checkpoint directory."""
    transient: ExceptionClass | Iterable[ExceptionClass] = ()
    """Exceptions, subclasses included, that are worth another try; kept as names."""
    permanent: ExceptionClass | Iterable[ExceptionClass] = ()
    """Exceptions, subclasses included, after which the task fails at once. The nearest class in either list decides."""
    limits: Mapping[Verdict | str, int] | Iterable[tuple[str, int]] = ()
    """Verdict to how many endings of it are tried again, whatever ``retries`` says; kept as pairs."""
    worth_retrying: Callable[[BaseException], bool | None] | str | None = None
    """Asked first, in the slot that raised: True: try again; False: fail at once; None: as the lists and the table
    say. Or ``package.module:function``."""
    attempts: InitVar[int | None] = None

    def __post_init__(self, attempts: int | None) -> None:
        if attempts is not None:
            self._count_attempts(attempts)
        _check_numbers(self)
        if self.transient != () or self.permanent != ():
            transient, permanent = class_names(self.transient), class_names(self.permanent)
            if both := set(transient) & set(permanent):
                raise ValueError(f"both transient and permanent: {min(both)!r}")
            object.__setattr__(self, "transient", transient)
            object.__setattr__(self, "permanent", permanent)
        if self.limits != ():
            object.__setattr__(self, "limits", _limits(self.limits))
        rule = self.worth_retrying
        if rule is not None and not callable(rule):
            object.__setattr__(self, "worth_retrying", function_name(rule))

    def limit_of(self, verdict: Verdict) -> int | None:
        """Return how many endings of a verdict are tried again; None: the policy does not say."""
        if not self.limits:
            return None
        return dict(_limits(self.limits)).get(verdict.value)

    def word_on(self, bases: Iterable[str]) -> tuple[Verdict, str] | None:
        """Return what its lists say of an exception, and the name that said it; None: nothing.

        Args:
            bases: the recorded names of the exception's classes, most derived first.
        """
        if not (self.transient or self.permanent):
            return None
        lists = ((Verdict.TRANSIENT, class_names(self.transient)), (Verdict.PERMANENT, class_names(self.permanent)))
        for base in bases:
            for verdict, names in lists:
                if any(is_named(base, name) for name in names):
                    return verdict, base
        return None

    def _count_attempts(self, attempts: int) -> None:
        if _whole("attempts", attempts) < 1:
            raise ValueError(f"attempts must be a whole number of at least 1: {attempts!r}")
        if self.retries not in (0, attempts - 1):
            raise ValueError(f"attempts is {attempts}, retries is {self.retries}: give one of them")
        object.__setattr__(self, "retries", attempts - 1)


def is_named(recorded: str, name: str) -> bool:
    """Whether a recorded class goes by a name: ``requests.Timeout`` is ``requests.exceptions.Timeout``."""
    if recorded == name:
        return True
    package, _, rest = name.partition(".")
    return bool(rest) and recorded.startswith(f"{package}.") and recorded.endswith(f".{rest}")


def class_names(given: ExceptionClass | Iterable[ExceptionClass]) -> tuple[str, ...]:
    """Return exception classes by name, ``builtins.ValueError`` for ``ValueError``.

    Raises:
        TypeError: one is neither a class of exceptions nor a name.
        ValueError: a name without a module is not that of a built-in exception.
    """
    several = (given,) if isinstance(given, (str, type)) else tuple(given)
    return tuple(dict.fromkeys(_class_name(one) for one in several))


def _class_name(given: object) -> str:
    if isinstance(given, type) and issubclass(given, BaseException):
        return f"{given.__module__}.{given.__qualname__}"
    if not isinstance(given, str):
        raise TypeError(f"not a class of exceptions: {given!r}")
    name = given.strip()
    if "." not in name:
        cls = getattr(builtins, name, None)
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            raise ValueError(f"not a built-in exception: {given!r}; write its module too: 'package.module.{name}'")
        return f"{cls.__module__}.{cls.__qualname__}"
    if not all(part.isidentifier() for part in name.replace(".<locals>", "").split(".")):
        raise ValueError(f"not the name of a class: {given!r}; write 'package.module.Class'")
    return name


def function_name(given: object) -> str:
    """Return ``package.module:function`` as it was given.

    Raises:
        TypeError: it is no text.
        ValueError: it is not of that form.
    """
    if not isinstance(given, str):
        raise TypeError(f"worth_retrying must be a function or the name of one: {given!r}")
    module, _, name = given.strip().partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise ValueError(f"not the name of a function: {given!r}; write 'package.module:function'")
    return f"{module}:{name}"


def _limits(given: Mapping[Verdict | str, int] | Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    pairs = given.items() if isinstance(given, Mapping) else given
    return tuple(sorted((_limitable(key), _whole(f"the limit of {key!r}", most)) for key, most in pairs))


def _limitable(key: Verdict | str) -> str:
    name = key.value if isinstance(key, Verdict) else str(key).lower()
    if name not in {verdict.value for verdict in LIMITABLE}:
        there_is = ", ".join(verdict.name for verdict in LIMITABLE)
        raise ValueError(f"no limit can be set for {key!r}; there is {there_is}")
    return name


def _whole(what: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{what} must be a whole number of at least 0: {value!r}")
    return value


def _check_numbers(policy: RetryPolicy) -> None:
    _whole("retries", policy.retries)
    if not (policy.base_s >= 0 and policy.cap_s >= 0):
        raise ValueError(f"base_s and cap_s must be 0 or more: {policy.base_s!r}, {policy.cap_s!r}")
    if not policy.factor >= 1:
        raise ValueError(f"factor must be 1 or more: {policy.factor!r}")
    if policy.max_elapsed_s is not None and not policy.max_elapsed_s >= 0:
        raise ValueError(f"max_elapsed_s must be 0 or more: {policy.max_elapsed_s!r}")
    if _whole("infrastructure_limit", policy.infrastructure_limit) < 1:
        raise ValueError(f"infrastructure_limit must be 1 or more: {policy.infrastructure_limit!r}")
