"""What a run gives: logits, spikes of the layers, and what they are as a table, picture or file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurocompile.arrays import ArrayLike
from neurocompile.data import check_labels, save_arrays
from neurocompile.errors import NeurocompileError
from neurocompile.frames import bars, data_frame
from neurocompile.guard import guarded

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

__all__ = ["RunResult", "classes_of", "is_classifier", "no_classes"]


@dataclass(frozen=True)
class RunResult:
    """``logits`` float64 (samples, ...), of the shape that the model returns, samples first: of
    several outputs the first that is classes, else the first. ``spikes``: layer -> spikes of all
    samples and steps.
    """

    backend: str
    banner: str
    logits: np.ndarray
    spikes: dict[str, int]
    neuron_steps: dict[str, int]
    step_logits: np.ndarray | None = None
    """Of a model with one set of logits a step: float64 (samples, T, ...), whose mean over T is
    ``logits``.
    """
    outside: float = 0.0
    """Share of the input's values outside of the calibrated range, which were clipped to it."""
    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    """Every output that the model returns, by name and in its order, float64 (samples, ...)."""
    rasters: dict[str, np.ndarray] = field(default_factory=dict)
    """Layer -> what each neuron sent, uint8 (samples, T, *shape) (int32 where a step has more than
    255); of a run with ``rasters`` alone."""

    def __repr__(self) -> str:
        return (
            f"<RunResult of {self.backend}: outputs {list(self.logits.shape)}, "
            f"{sum(self.spikes.values()):,} spikes; {self.banner}>"
        )

    @property
    def predictions(self) -> np.ndarray:
        """Class of the largest logit, int64 (samples,); empty, (0,), of a model that is no
        classifier: its outputs are not (samples, two classes or more).
        """
        return classes_of(self.logits)

    @property
    def layers(self) -> list[dict[str, Any]]:
        """Of each layer that was read back: ``layer``, ``spikes`` in all, those ``per_inference``,
        and ``rate``, spikes per neuron and step.
        """
        return [
            {
                "layer": layer,
                "spikes": n,
                "per_inference": n / len(self.logits),
                "rate": n / self.neuron_steps[layer],
            }
            for layer, n in self.spikes.items()
        ]

    @guarded
    def to_pandas(self) -> pandas.DataFrame:
        """:attr:`layers`, indexed by layer; NC4001 without pandas."""
        return data_frame(self.layers, "layer")

    @guarded
    def plot(self) -> Figure:
        """Spike rates of the layers; NC4001 without matplotlib."""
        rows = self.layers
        title = f"spike rates on {len(self.logits):,} samples: {self.backend}"
        rates = {"rate": [row["rate"] for row in rows]}
        return bars(title, [row["layer"] for row in rows], rates, "spikes per neuron and step")

    @guarded
    def save(self, path: str | Path) -> None:
        """Write an .npz, whole or not at all: ``logits`` float64 (samples, ...), ``predictions``
        int64 (samples,) if it is a classification, ``output.NAME`` float64 of several outputs,
        ``step_logits`` (samples, T, ...) if there are such, and ``layers``, ``spikes`` int64,
        ``rates`` float64 (spikes per neuron and step), one entry a layer, and ``raster.LAYER`` of
        a run with rasters; NC5005 or NC1015.
        """
        found: dict[str, np.ndarray] = {"logits": self.logits}
        if len(self.predictions):
            found["predictions"] = self.predictions
        if self.step_logits is not None:
            found["step_logits"] = self.step_logits
        if len(self.outputs) > 1:
            found |= {f"output.{name}": values for name, values in self.outputs.items()}
        rows = self.layers
        found["layers"] = np.array([row["layer"] for row in rows], dtype=np.str_)
        found["spikes"] = np.array([row["spikes"] for row in rows], np.int64)
        found["rates"] = np.array([row["rate"] for row in rows], np.float64)
        found["backend"] = np.array(self.backend)
        found |= {f"raster.{layer}": sent for layer, sent in self.rasters.items()}
        save_arrays(path, found)

    @guarded
    def accuracy(self, y: ArrayLike) -> float:
        """Share of samples whose prediction is ``y``, (samples,) integers; NC1006 for others, and
        without predictions.
        """
        if not len(self.predictions):
            raise no_classes(self.logits)
        return float((self.predictions == check_labels(y, len(self.logits))).mean())


def is_classifier(logits: np.ndarray) -> bool:
    """Whether ``logits`` are (samples, two classes or more)."""
    return logits.ndim == 2 and logits.shape[1] > 1


def classes_of(logits: np.ndarray) -> np.ndarray:
    """Class of the largest logit, int64 (samples,); empty where ``logits`` are no classes'."""
    return logits.argmax(axis=1) if is_classifier(logits) else np.zeros(0, np.int64)


def no_classes(logits: np.ndarray) -> NeurocompileError:
    """NC1006: an accuracy of outputs that are no classes'."""
    return NeurocompileError(
        "NC1006",
        f"outputs are {list(logits.shape)}, samples first: an accuracy needs (samples, two classes or more); "
        "compare RunResult.logits yourself",
    )
