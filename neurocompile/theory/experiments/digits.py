"""The shipped QKFormer and its held-out digits, for the experiments that need a trained model."""

from __future__ import annotations

from importlib.resources import as_file, files

from neurocompile.data import Samples, load_samples
from neurocompile.theory.subject import Subject, open_subject

__all__ = ["digits"]


def digits() -> tuple[Subject, Samples]:
    """The model, quantized anew for each T, and the 360 images that did not train it."""
    folder = files("neurocompile.models.zoo.qkformer_digits")
    with as_file(folder / "qkformer.onnx") as model, as_file(folder / "test.npz") as data:
        subject = open_subject(model)
        return subject, load_samples(data, subject.input_shape)
