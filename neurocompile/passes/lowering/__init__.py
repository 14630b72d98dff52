"""Rules of lowering by kind of node, one file an idea: importing them fills the table."""

from neurocompile.passes.lowering import linear, neurons, products, real, sums, time, views

__all__ = ["linear", "neurons", "products", "real", "sums", "time", "views"]
