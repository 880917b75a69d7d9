"""What a raised exception says about its task: three lists, looked up by HTTP status, errno and type.

Rule 1: a PERMANENT name must be the raised class itself. Libraries derive errors of their own from ValueError or
TypeError for convenience (a solver that diverged, a rate limit), and ``retries=n`` is the user's word that trying
again is worth it; only the standard library's own subclasses are listed beside their parents.
Rule 2: a TRANSIENT name covers its subclasses too: a kind of connection error is a connection error.
"""

from __future__ import annotations

import errno

from scalable_hpc.model.tasks import ExceptionFacts

TRANSIENT_HTTP = frozenset({408, 425, 429, *range(500, 600)})
"""Timeout, too early, rate limit, and the server's own faults."""

TRANSIENT_ERRNO = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.EINTR,
        errno.ESTALE,  # a parallel file system replaced the file under an open handle
        errno.EIO,  # a storage server failed over
        errno.ENOLCK,
        errno.EMFILE,
        errno.ENFILE,
        errno.ETIMEDOUT,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
        errno.ENOTCONN,
        errno.EPIPE,
        errno.EREMOTEIO,
        errno.ESHUTDOWN,
    }
)

TRANSIENT_TYPES = frozenset(
    {
        "builtins.ConnectionError",
        "builtins.TimeoutError",
        "builtins.BlockingIOError",
        "builtins.InterruptedError",
        "asyncio.exceptions.TimeoutError",  # a class of its own before Python 3.11
        "concurrent.futures._base.TimeoutError",
        "socket.timeout",
        "socket.gaierror",
        "ssl.SSLError",
        "http.client.IncompleteRead",
        "http.client.BadStatusLine",
        "urllib.error.URLError",
        "requests.exceptions.ConnectionError",
        "requests.exceptions.Timeout",
        "requests.exceptions.ChunkedEncodingError",
        "urllib3.exceptions.TimeoutError",
        "urllib3.exceptions.ProtocolError",
        "urllib3.exceptions.NewConnectionError",
        "urllib3.exceptions.MaxRetryError",
        "httpx.TransportError",
        "aiohttp.client_exceptions.ClientConnectionError",
        "aiohttp.client_exceptions.ClientPayloadError",
        "botocore.exceptions.EndpointConnectionError",
        "botocore.exceptions.ConnectionClosedError",
        "sqlite3.OperationalError",  # "database is locked"
    }
)

PERMANENT_TYPES = frozenset(
    {
        "builtins.ValueError",
        "builtins.UnicodeDecodeError",
        "builtins.UnicodeEncodeError",
        "builtins.UnicodeTranslateError",
        "json.decoder.JSONDecodeError",
        "builtins.TypeError",
        "builtins.AttributeError",
        "builtins.NameError",
        "builtins.UnboundLocalError",
        "builtins.SyntaxError",
        "builtins.IndentationError",
        "builtins.TabError",
        "builtins.NotImplementedError",
        "builtins.ImportError",
        "builtins.ModuleNotFoundError",
        "builtins.FileNotFoundError",
        "builtins.FileExistsError",
        "builtins.IsADirectoryError",
        "builtins.NotADirectoryError",
        "builtins.PermissionError",
        "builtins.RecursionError",
        "builtins.ZeroDivisionError",
    }
)

CHECKPOINTED = "scalable_hpc.errors.Checkpointed"
RESCHEDULED_TYPES = frozenset({CHECKPOINTED, "distributed.exceptions.Reschedule", "distributed.worker.Reschedule"})
"""Our way and Dask's for a task to hand itself back after a checkpoint."""


def is_rescheduled(facts: ExceptionFacts) -> bool:
    """Whether the task handed itself back on purpose."""
    return not RESCHEDULED_TYPES.isdisjoint(facts.bases)


def is_out_of_memory(facts: ExceptionFacts) -> bool:
    """Whether it is a MemoryError (NumPy raises a subclass), or the system said ENOMEM."""
    return "builtins.MemoryError" in facts.bases or facts.errno == errno.ENOMEM


def is_transient(facts: ExceptionFacts) -> bool:
    """Whether the world, not the task, is likely to blame.

    A known HTTP status has the last word: a "not found" is a URLError too, and no network fault.
    """
    if facts.http_status is not None:
        return facts.http_status in TRANSIENT_HTTP
    return facts.errno in TRANSIENT_ERRNO or not TRANSIENT_TYPES.isdisjoint(facts.bases)


def is_permanent(facts: ExceptionFacts) -> bool:
    """Whether the same call will raise the same again: the raised class itself is on the list (Rule 1)."""
    return facts.type_name in PERMANENT_TYPES
