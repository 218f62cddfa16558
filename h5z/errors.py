"""The exception tree, grouped by what a handler would do: fix the call, skip the file, free the target, or retry.

Every message is one line: the file, the object in it, what was expected and what was found.
"""

from __future__ import annotations

import errno

from h5z.credentials import redact


class H5zError(Exception):
    """Base of all errors that h5z raises on purpose; ``exit_code`` is what the command line ends with."""

    exit_code = 1


class PlanError(H5zError, ValueError):
    """The call cannot be carried out as it was made: fix the call."""

    exit_code = 2


class MissingKeyError(PlanError, KeyError):
    """There is no such key: ask for another."""

    __str__ = Exception.__str__


class UnsupportedError(H5zError, NotImplementedError):
    """The source holds something that cannot be carried over: change the policy or skip the file."""

    exit_code = 1


class SourceError(H5zError, OSError):
    """The source cannot be read: skip the file."""

    exit_code = 3


class IsolationError(SourceError):
    """The process that read the source crashed, hung or wanted too much memory: skip the file."""


class SourceChangedError(SourceError):
    """The source is no longer what was planned: it changed, or went away, while it was being read."""


class RecordError(SourceError, ValueError):
    """A row breaks its schema: skip its session, or have such rows kept and reported."""


class TargetError(H5zError, OSError):
    """The target cannot be read or written: free it, or choose another."""

    exit_code = 4


class TargetExistsError(TargetError, FileExistsError):
    """The target holds something else: name another, or overwrite it."""


class UnfinishedTargetError(TargetError):
    """The target's migration has not ended: run it again."""


class TargetHeldError(TargetError):
    """Another run holds the target: wait for its end, or for the end of its lease."""


class LeaseLostError(TargetHeldError):
    """The run holds the target no longer: another one has taken it over, or it was removed."""


class TransientError(H5zError, ConnectionError):
    """A store or a network failed in a way that may pass: retry."""

    exit_code = 4


_PASSING = frozenset(
    getattr(errno, f"E{name}", 0)
    for name in (
        *("AGAIN", "BUSY", "INTR", "REMOTEIO", "STALE", "TIMEDOUT", "PIPE", "NOTCONN"),
        *("CONNABORTED", "CONNREFUSED", "CONNRESET", "HOSTDOWN", "HOSTUNREACH", "NETDOWN", "NETRESET", "NETUNREACH"),
    )
)
_LASTING = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
_PASSING_NAMES = (
    *("Connect", "Timeout", "Throttl", "SlowDown", "Unavailable"),
    *("Disconnected", "Incomplete", "Payload", "GenericError"),
)


def is_transient(error: BaseException, *, remote: bool = True) -> bool:
    """Whether what a store, a network or a file system raised may pass if it is tried again.

    Parameters
    ----------
    remote : bool
        Whether it was reached over a network. There, what does not say what is wrong may pass: clients of object stores
        raise a plain `OSError` for what a server answered; a disk's errors say what they are.

    Examples
    --------
    >>> is_transient(ConnectionResetError("reset by peer")), is_transient(PermissionError(13, "denied"))
    (True, False)
    >>> is_transient(OSError("Internal Error")), is_transient(OSError("Internal Error"), remote=False)
    (True, False)
    """
    if isinstance(error, H5zError):
        return isinstance(error, TransientError)
    status = _http_status(error) or _http_status(error.__cause__)
    if status is not None:
        return status >= 500 or status in (408, 409, 425, 429)
    if isinstance(error, _LASTING):
        return False
    if isinstance(error, ConnectionError | TimeoutError | InterruptedError | BlockingIOError):
        return True
    if isinstance(error, OSError):
        return bool(error.errno and error.errno in _PASSING) or (remote and error.errno in (None, 0, errno.EIO))
    return any(word in type(error).__name__ for word in _PASSING_NAMES)


def _http_status(error: BaseException | None) -> int | None:
    """The HTTP status that an error of botocore's or aiohttp's carries."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        found = getattr(error, "status", None)
    return found if isinstance(found, int) else None


def one_line(error: BaseException) -> str:
    r"""Return an exception's message on one line, without credentials, with its type where it is not one of h5z's own.

    >>> one_line(PlanError("chunks of rank 2 for\n/a"))
    'chunks of rank 2 for /a'
    >>> one_line(KeyError("x"))
    "KeyError: 'x'"
    """
    text = redact(" ".join(str(error).split()))
    return text if isinstance(error, H5zError) and text else f"{type(error).__name__}: {text}"
