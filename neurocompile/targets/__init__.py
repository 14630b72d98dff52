"""Targets: chips and boards as data, each number with its source."""

from neurocompile.targets.loader import hardware_targets, list_targets, load_target, target_schema
from neurocompile.targets.schema import Target

__all__ = ["Target", "hardware_targets", "list_targets", "load_target", "target_schema"]
