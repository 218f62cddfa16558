"""What is refused, because no archive has it and no machine holds it: headers can tell of anything.

Each limit is far beyond what files hold that are meant to be read; what exceeds one is named in the plan, before any data are
read.
"""

from __future__ import annotations

from h5z.errors import UnsupportedError

MOST_OBJECTS = 10_000_000
MOST_COPIES = 100_000  # of objects, where soft and external links are followed: a few links make millions
MOST_LEVELS = 1000  # of groups in groups
MOST_TYPE_LEVELS = 64  # of datatypes in datatypes
MOST_ATTRIBUTES = 100_000  # of one object
LARGEST_ATTRIBUTE_NBYTES = 64 << 20  # as libhdf5 gives it; an element counts as 8 at least
LARGEST_ATTRIBUTES_NBYTES = 1 << 30  # of one file
LARGEST_USER_BLOCK_NBYTES = 64 << 20
LARGEST_ELEMENT_NBYTES = 64 << 20
LARGEST_ARRAY_NBYTES = 1 << 55
MOST_CHUNKS = 1 << 30  # of one dataset, stored or not
MOST_SHARING = 16  # variable-length bytes of a dataset, for each byte of its file: elements do not share what the heap holds
MOST_TASKS = 10_000_000
LONGEST_KEY_NBYTES = 1024  # of object stores
LONGEST_PATH_NBYTES = 4096


def at_most(limit: int, found: int, what: str) -> int:
    """Give back what was found if it is within a limit.

    >>> at_most(3, 4, "members")
    Traceback (most recent call last):
    h5z.errors.UnsupportedError: expected at most 3 members, found 4
    """
    if found > limit:
        raise UnsupportedError(f"expected at most {limit:,} {what}, found {found:,}")
    return found
