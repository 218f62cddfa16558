"""``python -m tests.benchmarks.stores``: reading and writing on an S3-speaking server beside bare clients' own GETs and PUTs.

The same bytes and objects, as many at a time, in the same run, in turn: h5z, which scans, plans, holds a lease, takes a checksum
and writes metadata besides; and clients that only move them. Chunks are stored as they are, so that no codec counts. The server
is moto's, on this machine, and takes its share of the cores: what counts are the ratios.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import obstore
import s3fs
from obstore.store import S3Store
from zarr.storage import ObjectStore

import h5z

BUCKET = "bench"
TASKS = 4  # at a time
CHUNK_NBYTES = 4 << 20


def timed(work: Callable[[], Any]) -> float:
    """Seconds that a piece of work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def store(url: str, prefix: str) -> S3Store:
    """A client of obstore's."""
    place = {"endpoint": url, "region": "us-east-1", "virtual_hosted_style_request": False}
    return S3Store(BUCKET, prefix=prefix, client_options={"allow_http": True}, **place)


def together(work: Callable[[Any], Any], items: Iterable[Any]) -> None:
    """Do a piece of work for each item, so many at a time as h5z has tasks."""
    with ThreadPoolExecutor(TASKS) as pool:
        list(pool.map(work, items))


def steps(url: str, folder: Path, filesystem: Any, i: int) -> dict[str, dict[str, Callable[[], Any]]]:
    """What is timed in one round: h5z, and each bare client with the same bytes, objects and tasks at a time."""
    source, target = f"s3://{BUCKET}/in.h5", f"s3://{BUCKET}/out{i}.zarr"
    with h5py.File(folder / "in.h5") as file:
        dataset = file["x"]
        found = [dataset.id.get_chunk_info(n) for n in range(dataset.id.get_num_chunks())]
        ranges = [(chunk.byte_offset, chunk.byte_offset + chunk.size) for chunk in found]
        objects = {f"x/c/{n}/0/0": dataset.id.read_direct_chunk((n * chunk_rows(dataset), 0, 0))[1] for n in range(len(found))}
    lazy = h5z.lazy(source)["/x"]
    bare, remote = store(url, f"bare{i}"), store(url, "")
    how: dict[str, Any] = {"codec": "keep", "chunks": "source", "workers": TASKS}
    in_obstore = store(url, f"os{i}.zarr")

    def moved(item: tuple[str, tuple[int, int]]) -> None:
        obstore.put(bare, item[0], bytes(obstore.get_range(remote, "in.h5", start=item[1][0], end=item[1][1])))

    return {
        "read": {
            "h5z": lambda: h5z.lazy(source)["/x"].compute(scheduler="threads", num_workers=TASKS),
            "h5z, values alone": lambda: lazy.compute(scheduler="threads", num_workers=TASKS),
            "obstore": lambda: together(lambda r: obstore.get_range(remote, "in.h5", start=r[0], end=r[1]), ranges),
            "s3fs": lambda: together(lambda r: filesystem.cat_file(f"{BUCKET}/in.h5", start=r[0], end=r[1]), ranges),
        },
        "write": {
            "h5z": lambda: h5z.convert(folder / "in.h5", target, **how),
            "h5z, ObjectStore": lambda: h5z.convert(folder / "in.h5", ObjectStore(in_obstore), **how),
            "obstore": lambda: together(lambda item: obstore.put(bare, item[0], item[1]), objects.items()),
            "s3fs": lambda: together(lambda item: filesystem.pipe_file(f"{BUCKET}/raw{i}/{item[0]}", item[1]), objects.items()),
        },
        "both": {
            "h5z": lambda: h5z.convert(source, target + "2", **how),
            "obstore": lambda: together(moved, zip(objects, ranges, strict=True)),
        },
    }


def chunk_rows(dataset: Any) -> int:
    """Length of a chunk along the first axis."""
    return int(dataset.chunks[0])


def rounds(url: str, folder: Path, mebibytes: int, count: int) -> None:
    """Read, write and move, in turn, and print medians."""
    rows = CHUNK_NBYTES // (1 << 18)  # of 256 × 256 float32
    with h5py.File(folder / "in.h5", "w") as file:
        data = np.random.default_rng(0).random((mebibytes * 4, 256, 256), "f4")
        file.create_dataset("x", data=data, chunks=(rows, 256, 256))
    filesystem = s3fs.S3FileSystem(use_listings_cache=False)
    filesystem.mkdir(BUCKET)
    filesystem.put_file(str(folder / "in.h5"), f"{BUCKET}/in.h5")
    times: dict[str, dict[str, list[float]]] = {}
    for i in range(count + 1):
        for direction, ways in steps(url, folder, filesystem, i).items():
            for name, step in ways.items():
                taken = timed(step)
                if i:  # the first round warms up
                    times.setdefault(direction, {}).setdefault(name, []).append(taken)
    print(f"{mebibytes} MiB in objects of {CHUNK_NBYTES >> 20} MiB, {TASKS} at a time; medians of {count}")
    for direction, found in times.items():
        base = median(found["obstore"])
        for name, taken in found.items():
            rate, ratio = mebibytes / median(taken), median(b / t for b, t in zip(found["obstore"], taken, strict=True))
            print(f"{direction:6} {name:18} {median(taken):7.2f} s {rate:8.1f} MiB/s  {ratio:5.2f} of obstore's ({base:.2f} s)")


def main(argv: Sequence[str] | None = None) -> int:
    """Start the server, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.stores", description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(argv)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    os.environ |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": url}
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = subprocess.DEVNULL
    with TemporaryDirectory(prefix="h5z-stores-") as name, subprocess.Popen(command, stdout=quiet, stderr=quiet) as server:
        try:
            while server.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            rounds(url, Path(name), options.mebibytes, options.rounds)
        finally:
            server.terminate()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
