"""A Zarr store whose chunks live in HDF5 containers: the store, and chunks into containers, back, and out."""
