"""``python -m h5z.cli``: the h5z command."""

from h5z.cli import main

main()
