"""lava-dl's network description (.net, HDF5): read with h5py alone, its integers kept."""
