"""What a future raises: the task's own exception, or an error that says what became of it and of its ancestors."""

from __future__ import annotations

import pickle

import cloudpickle
import pytest

from scalable_hpc.errors import AncestorFailed, TaskError, TaskKilled, TaskTimeout
from scalable_hpc.future import RemoteTraceback
from scalable_hpc.lineage.outcome import Outcome
from scalable_hpc.model.tasks import ExceptionFacts
from scalable_hpc.raising import error_of


class SiteMissing(LookupError):
    def __init__(self, site: str, *, code: int) -> None:
        super().__init__(f"no such site: {site}")
        self.code = code

    def __reduce__(self):
        return _site_missing, (self.args[0], self.code)


def _site_missing(site, code):
    return SiteMissing(site, code=code)


class Final(ValueError):
    def __init_subclass__(cls) -> None:
        raise TypeError("this class is final")


class WithSlots(Exception):
    __slots__ = ("site",)


def facts(error: BaseException, traceback: str = "") -> ExceptionFacts:
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    return ExceptionFacts(name, (name,), str(error), traceback=traceback, pickled=cloudpickle.dumps(error))


def of_descendant(cause: ExceptionFacts) -> BaseException:
    ancestor_failed = AncestorFailed("'b' was not run: b <- a failed")
    return error_of(Outcome("b", error=ancestor_failed, exception=cause), "b()")


def test_that_a_task_raises_what_its_code_raised():
    """The exception itself, with the traceback of where."""
    error = error_of(Outcome("a", exception=facts(SiteMissing("Bern", code=7), "Traceback: line 3")), "a()")

    assert type(error) is SiteMissing
    assert error.code == 7
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "line 3" in str(error.__cause__)


@pytest.mark.parametrize(
    "raised",
    [
        ZeroDivisionError("division by zero"),
        SiteMissing("Bern", code=7),
        FileNotFoundError(2, "No such file", "sites.csv"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
        TaskKilled("'a': its slot died"),
        TaskTimeout("'a' ran longer"),
        KeyError("x"),
        WithSlots("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_that_a_dependent_raises_the_exception_of_its_ancestor(raised):
    """It is caught as what the ancestor raised, and as AncestorFailed; it names the chain and has the cause."""
    error = of_descendant(facts(raised))

    assert isinstance(error, AncestorFailed)
    assert isinstance(error, type(raised))
    assert "b <- a" in str(error)
    assert type(error.__cause__) is type(raised)


def test_that_a_dependents_error_has_the_attributes_of_the_cause():
    """Who catches the ancestor's class may use what that class promises."""
    assert of_descendant(facts(SiteMissing("Bern", code=7))).code == 7
    error = of_descendant(facts(FileNotFoundError(2, "No such file", "sites.csv")))
    assert (error.errno, error.filename) == (2, "sites.csv")


def test_that_where_no_class_can_be_both_the_cause_is_told_all_the_same():
    """A class may refuse to be derived from."""
    error = of_descendant(facts(Final("no")))

    assert type(error) is AncestorFailed
    assert type(error.__cause__) is Final


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt()], ids=lambda e: type(e).__name__)
def test_that_what_ends_a_task_does_not_end_its_driver(raised):
    """``sys.exit`` in a task must not end whoever asks for its result, or for a dependent's."""
    error = error_of(Outcome("a", exception=facts(raised)), "a()")

    assert type(error) is TaskError
    assert type(raised).__name__ in str(error)
    assert type(error.__cause__) is type(raised)
    assert isinstance(of_descendant(facts(raised)), AncestorFailed)


def test_that_a_dependents_error_can_be_pickled():
    """Its owner may have it sent from process to process."""
    error = pickle.loads(pickle.dumps(of_descendant(facts(SiteMissing("Bern", code=7)))))

    assert isinstance(error, SiteMissing)
    assert (error.code, error.message) == (7, "'b' was not run: b <- a failed")
    assert isinstance(error.__cause__, SiteMissing)


def test_that_an_exception_of_which_only_words_are_known_is_of_its_class_where_everybody_has_it():
    """A driver that began later knows class and message from the journal."""
    killed = of_descendant(ExceptionFacts("scalable_hpc.errors.TaskKilled", (), "its slot died"))
    other = of_descendant(ExceptionFacts("model.SiteMissing", (), "no such site"))

    assert isinstance(killed, TaskKilled)
    assert isinstance(of_descendant(ExceptionFacts("builtins.ZeroDivisionError", (), "x")), ZeroDivisionError)
    assert "model.SiteMissing: no such site" in str(other.__cause__)
