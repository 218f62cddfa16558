"""A program for `test_container`: forks writers of one container, kills them at any moment, and looks at what they leave.

``python killing.py PATH ROUNDS SEED`` prints one line of JSON, or fails.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time

import h5py

from h5z.container import Container

KEYS = [f"{i}.{j}" for i in range(4) for j in range(4)]


def value(key: str, number: int) -> bytes:
    return f"{key}:{number}:".encode() * (number * 37 % 9000 + 1)


def check(key: str, data: bytes) -> None:
    name, number, _ = data.split(b":", 2)
    if name.decode() != key or data != value(key, int(number)):
        raise AssertionError(f"{key} holds what nobody wrote: {data[:40]!r}")


def write(path: str, number: int) -> None:
    chance, container = random.Random(number), Container(path)
    while True:
        key, action = chance.choice(KEYS), chance.random()
        if action < 0.05:
            container.delete(key)
        elif action < 0.08:
            container.seal()
        elif action < 0.09:
            container.compact()
        else:
            container.put(key, value(key, number))
        number += 1


def main(path: str, rounds: int, seed: int) -> None:
    chance, members = random.Random(seed), 0
    for number in range(rounds):
        writers = []
        for i in range(2):
            pid = os.fork()
            if not pid:
                try:
                    write(path, number * 100_000 + i * 50_000)
                finally:
                    os._exit(1)  # a writer ends by the kill alone
            writers.append(pid)
        time.sleep(chance.uniform(0, 0.02))
        for pid in chance.sample(writers, 2):
            os.kill(pid, signal.SIGKILL)
            if not os.WIFSIGNALED(os.waitpid(pid, 0)[1]):
                raise AssertionError("a writer failed")
        if os.path.exists(path):
            members += look(path)
    print(json.dumps({"members": members}))


def look(path: str) -> int:
    """Whatever was left opens, for h5z and for libhdf5, and every member is one that somebody wrote."""
    container = Container(path)
    entries = container.entries()
    for key in entries:
        check(key, container.get(key) or b"")
    with h5py.File(path) as file:
        for key in file:
            check(key, file[key][()].tobytes())
    return len(entries)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
