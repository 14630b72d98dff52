"""Labelled sentences as data of an experiment: what the host of a text model makes of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neurocompile.data import Samples
from neurocompile.errors import NeurocompileError
from neurocompile.files import open_input

if TYPE_CHECKING:
    from neurocompile.host.text import TextPart

__all__ = ["embedded", "is_text", "text_part_of"]


def is_text(path: Path | None) -> bool:
    """Whether a file is of sentences, by its suffix."""
    return path is not None and path.suffix == ".tsv"


def text_part_of(model: str) -> TextPart:
    """What ``package.module:function``'s module makes of sentences, its ``text_part()``; NC1012 where
    it has none. The factory has been called, so its module is there.
    """
    module = sys.modules.get(model.partition(":")[0])
    make = getattr(module, "text_part", None)
    if make is None:
        raise NeurocompileError(
            "NC1012",
            f"'{model}' has no text_part() in its module to embed sentences by; give arrays in an .npz file",
        )
    found: TextPart = make()
    return found


def embedded(path: Path, part: TextPart, most: int | None = None) -> Samples:
    """Embeddings float32 (samples, tokens, C) and classes of the first ``most`` lines 'sentence, tab,
    class'; NC1001, and NC1012 for a line of another form.
    """
    with open_input(path) as file:
        try:
            lines = file.read().decode("utf-8").splitlines()[:most]
        except UnicodeDecodeError as error:
            raise NeurocompileError("NC1012", f"'{path}' is no text in UTF-8: {error}") from error
    texts, labels = [], []
    for number, line in enumerate(lines, 1):
        text, tab, label = line.rpartition("\t")
        if not tab or not label.isdecimal() or len(label) > 9:
            raise NeurocompileError(
                "NC1012", f"line {number} of '{path}' is not a sentence, a tab and a class"
            )
        texts.append(text)
        labels.append(int(label))
    if not texts:
        raise NeurocompileError("NC1012", f"'{path}' holds no sentence")
    return Samples(part(texts), np.array(labels, np.int64))
