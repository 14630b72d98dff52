"""What the theory says of a model, beside what the emulator measures: ``neurocompile.budget``."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neurocompile.arrays import ArrayLike
from neurocompile.data import check_inputs, check_labels, load_samples
from neurocompile.guard import guarded
from neurocompile.options import BuildOptions, GivenOptions, takes_options
from neurocompile.parameters import count
from neurocompile.theory.measure.budget import random_inputs
from neurocompile.theory.measure.data_rows import open_rows, rows_of
from neurocompile.theory.measure.examine import Examination, examine
from neurocompile.theory.measure.subject import open_subject

if TYPE_CHECKING:
    from torch import nn
    from typing_extensions import Unpack

__all__ = ["budget"]

_SAMPLES = 100
_CALIBRATION = 64
_RANDOM = 16
_MOST_NUMBERS = 1 << 27
"""Of all pseudo-random inputs together."""


@guarded
@takes_options
def budget(
    model: str | Path | nn.Module,
    example_input: ArrayLike | None = None,
    *,
    data: np.ndarray | str | Path | None = None,
    labels: np.ndarray | None = None,
    samples: int | None = None,
    epsilon: float | None = None,
    accuracy: float | None = None,
    calibration: np.ndarray | str | Path | None = None,
    constant: float = 1.0,
    radius: float = 0.1,
    calibrate: bool = False,
    device: str = "cpu",
    progress: bool = False,
    options: BuildOptions | None = None,
    **given: Unpack[GivenOptions],
) -> Examination:
    """Spikes, steps and energy by the theory, each beside its measured value (docs/theory.md).

    Args:
        model, example_input, options: as :func:`neurocompile.compile` takes them, or an artifact.
        data: float32 (samples, *input shape), or an .npz file of them as ``x`` and, if it has
            them, of classes as ``y``; without it, pseudo-random inputs.
        labels: (samples,) integers of ``data`` that is an array.
        samples: measured on; by default the first 100 of ``data``, or 16 pseudo-random ones.
        epsilon: error of the logits (Euclidean); by default the one measured at T.
        accuracy: 0 to 1: the error that certainly keeps it; needs labels.
        calibration: for a model without statistics; by default the first 64 samples.
        constant: Theorem 8's c, which the paper does not give.
        radius: disturbance for the local L, as a share of a sample.
        calibrate: fit c on the sweep of T, with a bootstrap interval.
        device: cpu, cuda (all GPUs), cuda:N or torch-cpu.
    """
    asked = BuildOptions.of(options, given)
    if samples is not None:
        count("samples", samples)
    open_it = partial(
        open_subject, model, example_input=example_input, calibration=calibration, options=asked
    )
    y = None
    if data is None:
        rows, subject = None, open_it()
        quantized, circuit = subject.at(asked.T or subject.T)
        most = max(1, _MOST_NUMBERS // math.prod(quantized.input.sample_shape))
        count("samples", samples or _RANDOM, most=max(most, _RANDOM))
        x = random_inputs(circuit, quantized, samples or _RANDOM)
        origin = f"{len(x)} pseudo-random inputs (give data for numbers that mean something)"
    elif isinstance(data, (str, Path)):
        rows = open_rows(Path(data))
        # a model without statistics is calibrated on the first samples; load_samples then checks
        # their shape
        subject = open_it(np.asarray(next(rows.blocks())[1][:_CALIBRATION], np.float32))
        loaded = load_samples(data, subject.input_shape, samples or _SAMPLES)
        x, y = loaded.x, loaded.y
        origin = f"{len(x)} samples of {Path(data).name}"
    else:
        rows = rows_of(data, "data")
        subject = open_it(np.asarray(next(rows.blocks())[1][:_CALIBRATION], np.float32))
        whole = check_inputs(data, subject.input_shape, "data")
        x = whole[: samples or _SAMPLES]
        y = None if labels is None else check_labels(labels, len(whole))[: len(x)]
        origin = f"{len(x)} samples given"
    return examine(
        replace(subject, device=device),
        x,
        y,
        origin=origin,
        T=asked.T,
        eps=epsilon,
        accuracy=accuracy,
        constant=constant,
        rows=rows,
        calibrate=calibrate,
        radius=radius,
        progress=progress,
    )
