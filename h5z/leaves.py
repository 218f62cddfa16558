"""The Zarr arrays that carry a datatype: one where Zarr has a word for it, else one a member or part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from h5z.dtypes import access, class_of, is_string, parts, plain
from h5z.errors import UnsupportedError
from h5z.nodes import Datatype


@dataclass(frozen=True)
class Leaf:
    """One Zarr array of those that carry a dataset.

    Attributes
    ----------
    steps : tuple of str
        How its values are taken out of the dataset's: ``.name`` a member, ``lengths`` and ``values`` of a sequence.
    dtype : numpy.dtype or str
        A numpy dtype, or ``string`` for variable-length text and the paths of references.
    extra : tuple of int
        Dimensions that array datatypes add.
    ragged : bool
        Whether its first axis counts the elements of sequences rather than the dataset's own.
    """

    steps: tuple[str, ...]
    dtype: np.dtype[Any] | str
    extra: tuple[int, ...] = ()
    ragged: bool = False
    described: Datatype = ""


def leaves(dtype: Datatype, *, nested: bool = True, raw: bool | None = None) -> list[Leaf]:
    """The arrays that carry a datatype: one where Zarr has a word for it, else one a member or part.

    Parameters
    ----------
    nested : bool
        Whether structured types may hold structured types (Zarr format 2 cannot).

    Raises
    ------
    UnsupportedError
        For what neither numpy nor h5py reads: standard references, sequences of raw types.

    Examples
    --------
    >>> [leaf.steps for leaf in leaves({"class": "vlen", "base": "<i4"})]
    [('lengths',), ('values',)]
    """
    raw = access(dtype) == "raw" if raw is None else raw
    kind = class_of(dtype)
    if kind == "reference" and cast(dict[str, Any], dtype)["kind"] == "standard":
        raise UnsupportedError("references of HDF5 1.12's kind (H5R_ref_t) cannot be read with h5py")
    if raw and (kind == "vlen" or kind == "reference" or (is_string(dtype) and plain(dtype) is None)):
        inner = sorted({class_of(p) for p in parts(dtype)})
        raise UnsupportedError(f"variable-length data with types that numpy has no word for ({', '.join(inner)})")
    if kind == "reference" or (is_string(dtype) and plain(dtype) is None):
        return [Leaf((), "string", described=dtype)]
    if kind.startswith("unknown"):
        raise UnsupportedError(f"an HDF5 datatype of an unknown class ({kind})")
    if isinstance(dtype, dict) and kind == "array":
        outer = tuple(dtype["shape"])
        inner_leaves = leaves(dtype["base"], nested=nested, raw=raw)
        return [
            leaf if leaf.ragged else Leaf(leaf.steps, leaf.dtype, outer + leaf.extra, described=leaf.described)
            for leaf in inner_leaves
        ]
    if isinstance(dtype, dict) and kind == "vlen":
        lengths = Leaf(("lengths",), np.dtype("<u8"), described="<u8")
        below = leaves(dtype["base"], nested=nested, raw=raw)
        return [lengths] + [Leaf(("values", *leaf.steps), leaf.dtype, leaf.extra, True, leaf.described) for leaf in below]
    found = plain(dtype, raw=raw)
    deep = found is not None and found.names is not None and any(found[n].names for n in found.names)
    if found is not None and (nested or not deep):
        return [Leaf((), found, described=dtype)]
    members = cast(dict[str, Any], dtype)["members"]
    if not members:
        raise UnsupportedError("a compound without members")
    return [
        Leaf((f".{name}", *leaf.steps), leaf.dtype, leaf.extra, leaf.ragged, leaf.described)
        for name, _, member in members
        for leaf in leaves(member, nested=nested, raw=raw)
    ]
