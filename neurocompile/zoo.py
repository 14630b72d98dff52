"""The trained models that ship: which there are, where their files lie, what their cards say.

A model is a weight file and, beside it, a .json file of the same stem with its facts. Models are
named FOLDER/STEM, such as ``cifar10/qkformer-4-256``; the stem alone does where it is unique.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from neurocompile.errors import NeurocompileError

__all__ = ["ZooModel", "find_model", "list_models"]

_MODULE = "neurocompile.models.zoo"
_SUFFIXES = (".onnx", ".safetensors")


@dataclass(frozen=True)
class ZooModel:
    """One trained model."""

    name: str
    """FOLDER/STEM."""
    data: str
    """What it was trained on."""
    T: int
    """Steps of a sample."""
    parameters: int
    correct: int
    """Of :attr:`total` test samples, in float."""
    total: int
    path: Path
    """The weights."""
    installed: bool
    """Whether they are there: the wheel leaves out large ones."""
    source: str
    """The MODEL that ``neurocompile build`` takes."""
    card: Path
    """Data, licence, recipe, accuracy and spike rates, as text."""

    @property
    def accuracy(self) -> float:
        """Share of the test samples, 0 to 1."""
        return self.correct / self.total


def _root() -> Path:
    return Path(str(files(_MODULE)))


def list_models() -> list[ZooModel]:
    """Every trained model, sorted by name."""
    return [_model(path) for path in sorted(_root().glob("*/*.json"))]


def find_model(name: str) -> ZooModel:
    """The model ``name``, FOLDER/STEM or a stem that only one folder has.

    Raises:
        NeurocompileError: NC6002 for a name that no model has, or more than one.
    """
    models = list_models()
    found = [m for m in models if name in (m.name, m.name.partition("/")[2])]
    if len(found) == 1:
        return found[0]
    said = f"{len(found)} models" if found else "no model"
    choice = ", ".join(m.name for m in found or models)
    raise NeurocompileError("NC6002", f"the zoo has {said} of the name '{name}'; take of {choice}")


def _model(facts_path: Path) -> ZooModel:
    facts: dict[str, Any] = json.loads(facts_path.read_text(encoding="utf-8"))
    folder, stem = facts_path.parent, facts_path.stem
    weights = folder / f"{stem}{facts.get('suffix', _SUFFIXES[0])}"
    factory = f"{_MODULE}.{folder.name}:{stem.replace('-', '_')}"
    return ZooModel(
        name=f"{folder.name}/{stem}",
        data=facts["data"],
        T=facts["T"],
        parameters=facts["parameters"],
        correct=facts["correct"],
        total=facts["total"],
        path=weights,
        installed=weights.is_file(),
        source=str(weights) if weights.suffix == _SUFFIXES[0] else factory,
        card=folder / "card.md",
    )
