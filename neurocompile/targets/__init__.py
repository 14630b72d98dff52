"""Targets: chips and boards as data, each number with its source."""

from neurocompile.targets.loader import list_targets, load_target, target_schema
from neurocompile.targets.schema import Target

__all__ = ["Target", "list_targets", "load_target", "target_schema"]
