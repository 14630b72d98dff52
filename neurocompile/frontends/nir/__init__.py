"""NIR files (neuroir.org): read with h5py alone, and said in steps."""
