"""Makers of evidence."""

from __future__ import annotations

from scalable_hpc.faults.evidence import class_name, facts_of
from scalable_hpc.model.tasks import AttemptId, Ending, Evidence, ExceptionFacts

NOW = 1_800_000_000.0


def ended(ending: Ending, **facts: object) -> Evidence:
    return Evidence(AttemptId("f-1", 1), ending, NOW, **facts)  # type: ignore[arg-type]


def raised(error: BaseException) -> Evidence:
    return ended(Ending.EXCEPTION, exception=facts_of(error), ran_s=1.0)


def foreign(type_name: str, *bases: type, **facts: object) -> Evidence:
    """An exception of a library that is not installed here."""
    mro = (type_name, *(class_name(cls) for base in bases for cls in base.__mro__))
    return ended(Ending.EXCEPTION, exception=ExceptionFacts(type_name, mro, "", **facts))  # type: ignore[arg-type]
