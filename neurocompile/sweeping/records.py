"""What a sweep keeps: one JSON file a result, written whole, so that a killed sweep goes on where it
was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from neurocompile.calibration import Calibration, problem_of
from neurocompile.errors import NeurocompileError
from neurocompile.files import as_path, open_input, write_output

__all__ = ["Evaluation", "Placement", "Problem", "Settings", "Store"]

_LARGEST = 1 << 28
_SCHEMA = 1


class Problem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a point has no figures: it does not fit, or has no such T."""

    code: str
    message: str


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all records of a folder have in common."""

    schema: int
    tool: str
    """Version of neurocompile."""
    model: str
    model_sha256: str
    data_sha256: str
    """Of the samples and their classes."""
    samples: int
    calibration_sha256: str | None
    seed: int
    options: dict[str, Any]
    """Of the model, but for those that are swept."""
    counted: int
    """Samples whose messages are counted on the mapping; 0: modelled from the rates."""
    profiles: tuple[str, ...]


class Evaluation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of the integers: what they decide and how often they spike, by exact execution."""

    samples: int
    correct: int | None
    """None without classes."""
    spikes: dict[str, int]
    """Of each layer, all samples and steps."""
    neuron_steps: dict[str, int]
    """Of each layer: neurons times samples times steps."""
    logits_sha256: str
    """Of float64 (samples, ...): equal wherever it ran."""
    integers_sha256: str
    problem: Problem | None = None

    @property
    def accuracy(self) -> float | None:
        """Share of the samples, 0 to 1."""
        return None if self.correct is None or not self.samples else self.correct / self.samples

    @property
    def spikes_a_sample(self) -> float:
        """Of all layers, over all steps."""
        return sum(self.spikes.values()) / max(self.samples, 1)


class Placement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a mapped program: figures of one sample."""

    fold: str = ""
    """What ``auto`` chose."""
    cores: int = 0
    chips: int = 0
    steps: int = 0
    """Between two samples."""
    depth: int = 0
    neurons: int = 0
    basis: str = ""
    """Whether counts are measured on the emulator or modelled from rates."""
    packets: float = 0.0
    hops: float = 0.0
    operations: float = 0.0
    """Synaptic."""
    spikes: float = 0.0
    """Of all populations, helpers among them."""
    energy_pj: dict[str, float | None] = {}
    """Dynamic, by profile; modelled always. None where it prices nothing."""
    bound_pj: dict[str, float | None] = {}
    """Corollary 9, by profile."""
    integers_sha256: str = ""
    program_sha256: str = ""
    """Circuit and target: equal wherever it ran."""
    problem: Problem | None = None


_Kind = TypeVar("_Kind", bound=msgspec.Struct)


class Store:
    """The records of one sweep, in memory and, with a ``folder``, on disk.

    Raises:
        NeurocompileError: NC5010 where the folder holds another sweep's, or what is no record.
    """

    def __init__(self, folder: str | Path | None, settings: Settings) -> None:
        self.settings = settings
        self.folder = None if folder is None else as_path(folder, "NC5005")
        self._made: dict[str, Any] = {}
        if self.folder is None:
            return
        try:
            (self.folder / "records").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NeurocompileError(
                "NC5005", f"cannot make the folder '{self.folder}': {error.strerror}"
            ) from error
        before = self._read(self.folder / "sweep.json", Settings)
        if before is None:
            self._write(self.folder / "sweep.json", settings)
        elif before != settings:
            names = [
                f for f in settings.__struct_fields__ if getattr(before, f) != getattr(settings, f)
            ]
            raise NeurocompileError(
                "NC5010",
                f"'{self.folder}' holds a sweep with other {', '.join(names)}; give another folder, "
                "or the same model, data and settings to go on with it",
            )

    def get(self, name: str, kind: type[_Kind]) -> _Kind | None:
        """The record ``name``, if it is there."""
        if name not in self._made and self.folder is not None:
            found = self._read(self._path(name), kind)
            if found is not None:
                self._made[name] = found
        return self._made.get(name)

    def put(self, name: str, record: msgspec.Struct) -> None:
        """Keep ``record``; on disk whole or not at all."""
        self._made[name] = record
        if self.folder is not None:
            self._write(self._path(name), record)

    def _path(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / "records" / f"{name}.json"

    @staticmethod
    def _write(path: Path, record: msgspec.Struct) -> None:
        write_output(path, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")

    @staticmethod
    def _read(path: Path, kind: type[_Kind]) -> _Kind | None:
        if not path.exists():
            return None
        with open_input(path) as file:
            data = file.read(_LARGEST + 1)
        try:
            found = msgspec.json.decode(data, type=kind)
        except msgspec.DecodeError as error:
            raise NeurocompileError(
                "NC5010",
                f"'{path}' is no record of a sweep: {error}; delete it to compute it again",
            ) from error
        problem = problem_of(found) if isinstance(found, Calibration) else None
        if problem is not None:
            raise NeurocompileError("NC5010", f"'{path}': {problem}; delete it to compute it again")
        return found
