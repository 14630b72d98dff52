"""The shipped models and their held-out digits, for the experiments that need trained models."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import as_file, files

from neurocompile.data import Samples, load_samples
from neurocompile.theory.measure.subject import Subject, open_subject

__all__ = ["DIGITS_MODELS", "digits"]

DIGITS_MODELS = {
    "QKFormer": ("qkformer_digits", "qkformer"),
    "Spikformer": ("digits", "spikformer"),
    "Spike-driven Transformer": ("digits", "spike_driven_transformer"),
    "SpikingResformer": ("digits", "spiking_resformer"),
    "Meta-SpikeFormer": ("digits", "meta_spikeformer"),
}
"""Folder and file in the zoo."""


def digits(model: str = "QKFormer") -> tuple[Subject, Samples]:
    """The model, quantized anew for each T, and the 360 images that did not train it, enlarged
    where it reads larger ones.
    """
    zoo = files("neurocompile.models.zoo")
    folder, name = DIGITS_MODELS[model]
    with (
        as_file(zoo / folder / f"{name}.onnx") as file,
        as_file(zoo / "qkformer_digits" / "test.npz") as data,
    ):
        subject = open_subject(file)
        samples = load_samples(data, (1, 8, 8))
    factor = subject.input_shape[-1] // 8
    return subject, replace(samples, x=samples.x.repeat(factor, 2).repeat(factor, 3))
