"""The kinds of node, one file an idea; :mod:`neurocompile.ir.spiking` has all of them by name."""
