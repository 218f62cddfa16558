"""HDF5's bytes, past libhdf5 and through it: files, chunk indexes, filters, datatypes, and where a file may lead."""
