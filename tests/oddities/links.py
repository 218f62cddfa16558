"""Links of every kind, virtual datasets, external storage, committed datatypes, creation order, user block."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from .registry import oddity


def beside(path: Path, name: str) -> Path:
    """Where a generator writes a second file."""
    return path.with_name(f"{path.stem}-{name}")


@oddity
def hard_links(path: Path) -> None:
    """To a dataset and to a group, from elsewhere."""
    with h5py.File(path, "w") as file:
        file["a/data"] = np.arange(4)
        file["b/again"] = file["a/data"]
        file["b/a_again"] = file["a"]
        file["z"] = file["a/data"]


@oddity
def cyclic_hard_links(path: Path) -> None:
    """To the root, to the parent, to itself."""
    with h5py.File(path, "w") as file:
        group = file.create_group("a/b")
        group["root"] = file["/"]
        group["parent"] = file["a"]
        group["self"] = group
        group["data"] = np.arange(4)


@oddity
def soft_links(path: Path) -> None:
    """Absolute, relative, to a group, through another, dangling, to itself."""
    with h5py.File(path, "w") as file:
        file["a/data"] = np.arange(4)
        file["absolute"] = h5py.SoftLink("/a/data")
        file["a/relative"] = h5py.SoftLink("data")
        file["group"] = h5py.SoftLink("/a")
        file["through"] = h5py.SoftLink("/group/data")
        file["dangling"] = h5py.SoftLink("/nowhere")
        file["loop"] = h5py.SoftLink("/loop")


@oddity
def external_links(path: Path) -> None:
    """To a file beside it, to one that is missing, to one outside its folder."""
    other = beside(path, "other.h5")
    with h5py.File(other, "w") as file:
        file["data"] = np.arange(5)
    with h5py.File(path, "w") as file:
        file["mine"] = np.arange(2)
        file["beside"] = h5py.ExternalLink(other.name, "/data")
        file["missing"] = h5py.ExternalLink("missing.h5", "/data")
        file["outside"] = h5py.ExternalLink("../../../etc/passwd", "/")


@oddity
def virtual_dataset_of_the_same_file(path: Path) -> None:
    """A view of two datasets, with a part that nothing covers."""
    with h5py.File(path, "w") as file:
        file["first"], file["second"] = np.arange(4, dtype="<i4"), np.arange(10, 14, dtype="<i4")
        layout = h5py.VirtualLayout(shape=(3, 4), dtype="<i4")
        layout[0] = h5py.VirtualSource(file["first"])
        layout[2] = h5py.VirtualSource(file["second"])
        file.create_virtual_dataset("view", layout, fillvalue=-1)


@oddity
def virtual_dataset_of_other_files(path: Path) -> None:
    """Of two files beside it, of which one is missing."""
    part = beside(path, "part.h5")
    with h5py.File(part, "w") as file:
        file.create_dataset("data", data=np.arange(6, dtype="<f4").reshape(2, 3), chunks=(1, 3), compression="gzip")
    layout = h5py.VirtualLayout(shape=(4, 3), dtype="<f4")
    layout[0:2] = h5py.VirtualSource(part.name, "data", shape=(2, 3))
    layout[2:4] = h5py.VirtualSource("missing.h5", "data", shape=(2, 3))
    with h5py.File(path, "w", libver="latest") as file:
        file.create_virtual_dataset("view", layout, fillvalue=np.nan)


@oddity
def external_storage(path: Path) -> None:
    """Data in two files beside it, the second from an offset."""
    data = np.arange(24, dtype="<i4").reshape(6, 4)
    first, second = beside(path, "1.raw"), beside(path, "2.raw")
    first.write_bytes(data[:2].tobytes())
    second.write_bytes(b"header--" + data[2:].tobytes())
    with h5py.File(path, "w") as file:
        pieces = [(first.name, 0, 32), (second.name, 8, h5py.h5f.UNLIMITED)]
        file.create_dataset("data", shape=data.shape, dtype=data.dtype, external=pieces)


@oddity
def external_storage_outside_the_folder(path: Path) -> None:
    """Raw bytes that lie elsewhere are read only by policy."""
    elsewhere = path.parent.parent / f"{path.stem}-elsewhere.raw"
    elsewhere.write_bytes(np.arange(4, dtype="<i4").tobytes())
    with h5py.File(path, "w") as file:
        file["mine"] = np.arange(2)
        file.create_dataset("data", shape=(4,), dtype="<i4", external=[(str(elsewhere.resolve()), 0, 16)])


@oddity
def committed_datatypes(path: Path) -> None:
    """Shared by two datasets and an attribute, with an attribute of its own, in a group."""
    with h5py.File(path, "w") as file:
        file["types/point"] = np.dtype([("x", "<f4"), ("y", "<f4")])
        point = file["types/point"]
        point.attrs["unit"] = "metre"
        for name in ("a", "b"):
            file.create_dataset(name, data=np.array([(1, 2), (3, 4)], point.dtype), dtype=point)
        file["number"] = np.dtype(">i4")
        file.attrs.create("here", np.int32(5), dtype=file["number"])


@oddity
def creation_order(path: Path) -> None:
    """Links and attributes in another order than that of their names."""
    with h5py.File(path, "w", track_order=True) as file:
        for name in ("z", "a", "m"):
            file.attrs[name] = name
            group = file.create_group(name, track_order=True)
            for inner in ("2", "1", "3"):
                data = group.create_dataset(inner, data=np.arange(2), track_order=True)
                data.attrs["second"], data.attrs["first"] = 2, 1


@oddity
def user_block(path: Path) -> None:
    """Bytes in front of the HDF5 file that belong to somebody else."""
    with h5py.File(path, "w", userblock_size=1024) as file:
        file.create_dataset("data", data=np.arange(20), chunks=(6,), compression="gzip")
        file["contiguous"] = np.arange(5, dtype=">f4")
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, or so")


@oddity
def deep_nesting(path: Path) -> None:
    """Groups in groups, so many that three calls a level, were they nested, would be more than Python allows."""
    with h5py.File(path, "w") as file:
        group = file
        for _ in range(340):
            group = group.create_group("g")
        group["data"] = np.arange(3)


@oddity
def comments(path: Path) -> None:
    """HDF5's comment on an object."""
    with h5py.File(path, "w") as file:
        file["data"] = np.arange(3)
        file.create_group("group")
        h5py.h5o.set_comment(file["data"].id, b"three numbers")
        h5py.h5o.set_comment(file["group"].id, b"nothing in it")


@oddity
def empty_file(path: Path) -> None:
    """A root group and nothing else."""
    with h5py.File(path, "w"):
        pass
