"""Mapping: populations cut into tiles, tiles packed into cores, cores placed on the mesh."""

from neurocompile.mapping.mapping import Mapping, check_mapping, map_circuit
from neurocompile.mapping.partition import lower_bound_cores

__all__ = ["Mapping", "check_mapping", "lower_bound_cores", "map_circuit"]
