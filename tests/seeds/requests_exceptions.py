"""The exceptions of that stand-in, of the same names; laid out as ``requests/exceptions.py``."""

from __future__ import annotations


class RequestException(IOError):
    """Base of them all."""

    def __init__(self, *args: object, response: object = None) -> None:
        super().__init__(*args)
        self.response = response


class HTTPError(RequestException):
    """The answer was an error."""


class ConnectionError(RequestException):  # noqa: A001
    """There was no answer."""
