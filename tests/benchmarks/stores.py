"""``python -m tests.benchmarks.stores``: a migration on an S3-speaking server beside the bare clients' own PUTs and GETs.

The same bytes and objects, in the same run, in turn: the conversion from an object to objects, and a client that only moves
them. The server is moto's, on this machine, and takes its share of the cores: what counts are the ratios.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
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


def timed(work: Callable[[], Any]) -> float:
    """Seconds that a piece of work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def store(url: str, prefix: str) -> S3Store:
    """A client of obstore's."""
    place = {"endpoint": url, "region": "us-east-1", "virtual_hosted_style_request": False}
    return S3Store(BUCKET, prefix=prefix, client_options={"allow_http": True}, **place)


def rounds(url: str, folder: Path, mebibytes: int, count: int) -> None:
    """Convert and move, and print medians."""
    edge = 256
    with h5py.File(folder / "in.h5", "w") as file:
        data = np.random.default_rng(0).integers(0, 1 << 12, (mebibytes * 4, edge, edge), "i4")
        file.create_dataset("x", data=data, chunks=(4, edge, edge), compression=1, shuffle=True)
    filesystem = s3fs.S3FileSystem(use_listings_cache=False)
    filesystem.mkdir(BUCKET)
    filesystem.put_file(str(folder / "in.h5"), f"{BUCKET}/in.h5")
    size = os.path.getsize(folder / "in.h5")
    times: dict[str, list[float]] = {}
    for i in range(count):
        steps: dict[str, Callable[[], Any]] = {
            "h5z, by URL": lambda i=i: h5z.convert(f"s3://{BUCKET}/in.h5", f"s3://{BUCKET}/url{i}.zarr"),
            "h5z, zarr's ObjectStore": lambda i=i: h5z.convert(f"s3://{BUCKET}/in.h5", ObjectStore(store(url, f"os{i}.zarr"))),
            "h5z, local to local": lambda i=i: h5z.convert(folder / "in.h5", folder / f"local{i}.zarr"),
        }
        for name, step in steps.items():
            times.setdefault(name, []).append(timed(step))
        objects = {key: filesystem.cat_file(key) for key in filesystem.find(f"{BUCKET}/url{i}.zarr")}
        client = store(url, f"bare{i}")
        ranges = [(start, min(start + size // 64, size)) for start in range(0, size, size // 64)]

        def bare_obstore(client: Any = client, objects: Any = objects, ranges: Any = ranges) -> None:
            source = store(url, "")
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda r: obstore.get_range(source, "in.h5", start=r[0], end=r[1]), ranges))
                list(pool.map(lambda item: obstore.put(client, item[0], item[1]), objects.items()))

        def bare_s3fs(i: int = i, objects: Any = objects, ranges: Any = ranges) -> None:
            starts, ends = zip(*ranges, strict=True)
            filesystem.cat_ranges([f"{BUCKET}/in.h5"] * len(ranges), list(starts), list(ends))
            filesystem.pipe({f"{BUCKET}/raw{i}/{key}": value for key, value in objects.items()})

        times.setdefault("bare obstore", []).append(timed(bare_obstore))
        times.setdefault("bare s3fs", []).append(timed(bare_s3fs))
    base = median(times["bare s3fs"])
    for name, taken in times.items():
        print(f"{name:24} {median(taken):6.2f} s  {median(taken) / base:5.2f} of bare s3fs")


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
