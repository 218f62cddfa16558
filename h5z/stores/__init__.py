"""Where Zarr stores are kept: folders and object stores, what changes there whole or not at all, and who holds a target."""
