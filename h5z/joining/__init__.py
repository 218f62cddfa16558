"""Several files as one, along a dimension: their hierarchies, their arrays, their times, and a target that grows by them."""
