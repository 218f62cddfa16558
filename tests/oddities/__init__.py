"""HDF5 files that hold one oddity each: `ODDITIES` maps its name to the function that writes such a file.

A generator takes the file's path; what it writes beside it (external files, sources) begins with the file's stem.
"""

from . import attributes, composites, dimensions, layouts, links, names, numbers, spaces, strings
from .registry import ODDITIES, Generator

__all__ = [
    "ODDITIES",
    "Generator",
    "attributes",
    "composites",
    "dimensions",
    "layouts",
    "links",
    "names",
    "numbers",
    "spaces",
    "strings",
]
