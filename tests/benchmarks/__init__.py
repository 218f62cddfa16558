"""Benchmarks: h5z, its peers and the codecs' floor on the same input, alternating, each in its own process.

``python -m tests.benchmarks`` runs every case; see :mod:`tests.benchmarks.cases` for what each one asks.
"""
