"""Trees of Python objects <-> Zarr: `save` and `load`."""

from h5z.objects.load import load
from h5z.objects.save import save

__all__ = ["load", "save"]
