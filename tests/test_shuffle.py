"""HDF5's shuffle filter undone: by its definition, for every size of element and of chunk."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from h5z.hdf5.shuffle import unshuffle


@given(st.sampled_from((1, 2, 3, 4, 7, 8, 12, 16, 17, 64, 255, 256, 300)), st.integers(0, 5000), st.integers(0, 2**32 - 1))
def test_bytes_come_together_again(itemsize: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    plain = rng.integers(0, 256, count * itemsize % 200_000 + int(rng.integers(0, itemsize)), dtype=np.uint8)
    whole = len(plain) // itemsize * itemsize
    stored = np.concatenate([plain[:whole].reshape(-1, itemsize).T.reshape(-1), plain[whole:]])

    assert bytes(unshuffle(stored.tobytes(), itemsize)) == plain.tobytes()
