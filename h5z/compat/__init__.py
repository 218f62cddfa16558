"""The names and parameters of other projects, over h5z: change one import."""
