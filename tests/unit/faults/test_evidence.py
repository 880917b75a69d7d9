"""Exceptions as facts."""

from __future__ import annotations

import urllib.error
from http import HTTPStatus
from typing import ClassVar

import pytest

from scalable_hpc.faults.evidence import MESSAGE_LIMIT, describe, facts_of, signal_name
from scalable_hpc.model.tasks import Ending
from tests.unit.faults.support import ended


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even its text")


class Response:
    status_code = 503


class HttpError(Exception):
    response = Response()


class Rude(Exception):
    @property
    def response(self):
        raise RuntimeError("no attribute is safe")


def test_that_an_exception_is_taken_down_with_its_whole_ancestry():
    """Type, bases, errno, message and traceback survive as plain data."""
    try:
        raise FileNotFoundError(2, "No such file", "weather.csv")
    except FileNotFoundError as error:
        facts = facts_of(error)

    assert facts.type_name == "builtins.FileNotFoundError"
    assert facts.bases[:3] == ("builtins.FileNotFoundError", "builtins.OSError", "builtins.Exception")
    assert facts.errno == 2
    assert "weather.csv" in facts.message
    assert "test_evidence.py" in facts.traceback


@pytest.mark.parametrize("error", [Unprintable(), Rude("x")])
def test_that_no_exception_can_break_the_taking_down(error):
    """A stranger's __str__ or attribute may raise; the facts are taken all the same."""
    assert type(error).__name__ in facts_of(error).type_name


class ClientError(Exception):
    """As botocore has it."""

    response: ClassVar = {"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}


class ClientResponseError(Exception):
    """As aiohttp has it."""

    status = 503


class APIStatusError(Exception):
    """As many clients of web services have it."""

    status_code = 503


class GoogleAPICallError(Exception):
    """As Google's libraries have it."""

    code = HTTPStatus.SERVICE_UNAVAILABLE


@pytest.mark.parametrize(
    "error",
    [
        HttpError(),
        ClientError(),
        ClientResponseError(),
        APIStatusError(),
        GoogleAPICallError(),
        urllib.error.HTTPError("http://x", 503, "busy", {}, None),
    ],
    ids=lambda error: type(error).__name__,
)
def test_that_an_http_status_is_found_where_a_library_keeps_it(error):
    """Whatever attribute that is; the text is never looked at."""
    assert facts_of(error).http_status == 503


@pytest.mark.parametrize(
    "response", [{}, {"ResponseMetadata": None}, {"ResponseMetadata": {"HTTPStatusCode": "503"}}, 7]
)
def test_that_a_response_without_a_status_is_none(response):
    """Attributes of the same name with another content are not taken for a status."""
    error = RuntimeError("HTTP 503 Service Unavailable")
    error.response = response

    assert facts_of(error).http_status is None


def test_that_numbers_that_are_no_status_are_not_taken_for_one():
    """``SystemExit.code`` and the like are not HTTP."""
    assert facts_of(SystemExit(2)).http_status is None


def test_that_a_huge_message_is_cut():
    """An exception that prints an array does not fill the journal."""
    assert len(facts_of(ValueError("x" * 100_000)).message) == MESSAGE_LIMIT


def test_that_an_ending_is_told_with_signal_time_and_place():
    """The description has what a person would ask first."""
    told = describe(ended(Ending.SLOT_DIED, signal=11, ran_s=3.25, node="n3"))

    assert told == "its slot died (SIGSEGV) after 3.2 s on n3"


@pytest.mark.parametrize("ending", Ending)
def test_that_every_ending_can_be_told(ending):
    """No ending is without words."""
    assert describe(ended(ending))


def test_that_an_unknown_signal_keeps_its_number():
    """A number without a name is not an error."""
    assert signal_name(77) == "signal 77"
