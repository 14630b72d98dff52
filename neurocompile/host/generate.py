"""Text that a program writes: its last step's logits choose the next character, again and again.

A sample of the chip is a window of T characters that starts from an empty state; neurons and sums
are reset where the next one begins. So each new character runs the last T of the text, and what
left the window is forgotten; a program for longer samples remembers more.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.host.characters import CharacterPart
from neurocompile.progress import chunks

__all__ = ["Generated", "generate"]


class Writer(Protocol):
    """What a :class:`~neurocompile.program.Program` is here."""

    @property
    def text_part(self) -> object: ...

    def open(self, backend: str = ...) -> AbstractContextManager[Any]: ...

    def run(
        self, x: np.ndarray, backend: str = ..., *, device: str = ..., executor: Any = ...
    ) -> Any: ...


@dataclass(frozen=True)
class Generated:
    """What a program wrote."""

    prompt: str
    """In the characters that it knows."""
    text: str
    """Behind the prompt."""
    perplexity: float
    """Of the characters that it wrote, by its own logits."""
    spikes: int
    """Of all windows."""
    window: int
    """Characters that each one was chosen by, at most."""
    seconds: float


def generate(
    program: Writer,
    prompt: str,
    characters: int = 40,
    *,
    temperature: float = 0.0,
    seed: int = 0,
    backend: str = "emulator",
    device: str = "cpu",
    progress: bool = False,
) -> Generated:
    """Let ``program`` go on with ``prompt``.

    Args:
        characters: how many, >= 1.
        temperature: 0 takes the likeliest; else drawn from ``softmax(logits / temperature)``.

    Raises:
        NeurocompileError: NC1006 for a program without characters, or without logits of each step
            for each of them, and for an empty prompt; NC1015 for numbers that mean nothing.
    """
    part = program.text_part
    if not isinstance(part, CharacterPart):
        raise NeurocompileError(
            "NC1006",
            "this program has no vocabulary of characters: give it one (Program.with_text(CharacterPart(...)))",
        )
    if not prompt:
        raise NeurocompileError("NC1006", "the prompt is empty: give at least one character")
    if characters < 1 or not 0 <= temperature < np.inf:
        raise NeurocompileError(
            "NC1015",
            f"{characters} characters at temperature {temperature:g}; 1 or more, at a temperature from 0 on, are supported",
        )
    start, known = time.perf_counter(), part.known(prompt)
    rng = np.random.default_rng(seed)
    written, lost, spikes = known, 0.0, 0
    with nullcontext() if device != "cpu" else program.open(backend) as executor:
        for _ in _counted(characters, progress):
            result = program.run(part([written]), backend, device=device, executor=executor)
            logits = result.step_logits
            if logits is None or logits.shape[1:] != (part.length, len(part.vocabulary)):
                raise NeurocompileError(
                    "NC1006",
                    f"the program has no logits of each step for {len(part.vocabulary)} characters",
                )
            row = logits[0, min(len(written), part.length) - 1]
            chosen = _chosen(row, temperature, rng)
            lost -= float(row[chosen] - row.max() - np.log(np.exp(row - row.max()).sum()))
            written += part.vocabulary[chosen]
            spikes += sum(result.spikes.values())
    return Generated(
        known,
        written[len(known) :],
        float(np.exp(lost / characters)),
        spikes,
        part.length,
        time.perf_counter() - start,
    )


def _counted(count: int, progress: bool) -> Iterator[int]:
    for part in chunks(count, 1, "characters", progress):
        yield part.start


def _chosen(row: np.ndarray, temperature: float, rng: np.random.Generator) -> int:
    if not temperature:
        return int(row.argmax())
    odds = np.exp((row - row.max()) / temperature)
    return int(rng.choice(len(row), p=odds / odds.sum()))
