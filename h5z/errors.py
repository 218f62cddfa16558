"""The exception tree, grouped by what a handler would do: fix the call, skip the file, free the target, or retry.

Every message is one line: the file, the object in it, what was expected and what was found.
"""

from __future__ import annotations


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


class TargetError(H5zError, OSError):
    """The target cannot be read or written: free it, or choose another."""

    exit_code = 4


class TargetExistsError(TargetError, FileExistsError):
    """The target holds something else: name another, or overwrite it."""


class UnfinishedTargetError(TargetError):
    """The target's migration has not ended: run it again."""


class TransientError(H5zError, ConnectionError):
    """A store or a network failed in a way that may pass: retry."""

    exit_code = 4


def one_line(error: BaseException) -> str:
    r"""Return an exception's message on one line, with its type where it is not one of h5z's own.

    >>> one_line(PlanError("chunks of rank 2 for\n/a"))
    'chunks of rank 2 for /a'
    >>> one_line(KeyError("x"))
    "KeyError: 'x'"
    """
    text = " ".join(str(error).split())
    return text if isinstance(error, H5zError) and text else f"{type(error).__name__}: {text}"
