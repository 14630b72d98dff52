"""Compile one random program and compare every spike with its meaning."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from front_ends import write_onnx
from programs import Program, logits_of, random_program, spikes_of

import neurocompile
from neurocompile.program import Program as Compiled
from neurocompile.stages.lowered import Lowered

__all__ = ["Verdict", "judge", "judge_module", "judge_seed"]


@dataclass(frozen=True)
class Verdict:
    """``refused`` is the code of a refusal, "" for a program that compiles; ``different`` counts
    spikes that are not those of float64, of ``spikes``, and ``where`` is the first layer with one.
    """

    refused: str = ""
    why: str = ""
    exact: bool = True
    different: int = 0
    spikes: int = 0
    where: str = ""
    met: int = 0
    """Potentials that meet their threshold exactly at the first step."""


def judge_seed(seed: int, mapped: bool = True, strict: bool = False) -> Verdict:
    """The program of ``seed``, or its ``strict`` twin, through an ONNX file; without its cores if it
    is not ``mapped``, which takes a quarter of the time.
    """
    program = random_program(seed)
    program = program.strictly() if strict else program
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "program.onnx")
        write_onnx(program, path)
        return _judged(program, mapped, path)


def judge_module(seed: int, mapped: bool = True) -> Verdict:
    """The program of ``seed``, as a SpikingJelly module."""
    import torch
    from modules import Network

    program = random_program(seed)
    example = torch.as_tensor(program.x, dtype=torch.float32)
    return _judged(program, mapped, Network(program).eval(), example)


def _judged(program: Program, mapped: bool, *model: Any) -> Verdict:
    x = program.x.astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            opened = neurocompile.open(*model, T=program.T, calibration=x)
            lowered = opened.canonical().quantize().lower()
            compiled = lowered.map() if mapped else lowered
        except neurocompile.NeurocompileError as error:
            return Verdict(refused=error.code, why=error.message)
    return judge(program, compiled)


def judge(program: Program, compiled: Compiled | Lowered) -> Verdict:
    """Compare all layers, and the emulator with the definition."""
    x, values = program.x.astype(np.float32), spikes_of(program)
    lowest = {k.name: k.low for k in program.layers}
    layers = [view.layer for view in compiled.circuit.views]
    # where a file or module has no names of the program's, layers come in its order
    own = set(layers) == set(program.fired)
    names = dict(zip(layers, layers if own else program.fired, strict=True))
    if isinstance(compiled, Lowered):
        spikes, defined = compiled.spikes(x), compiled.quantized.spikes(x)
        exact = all((spikes[k] == defined[k].reshape(spikes[k].shape)).all() for k in spikes)
        outputs = [compiled.logits(x)]
    else:
        exact, trace = compiled.parity(x, against=("emulator",)).exact, compiled.trace(x)
        spikes = {v.layer: v.read(trace[v.src]) for v in compiled.circuit.views}
        outputs = list(compiled.run(x).outputs.values())
    different, total, where = 0, 0, ""
    for name, found in spikes.items():
        layer = names[name]
        wanted = values[layer] - lowest[layer]  # the chip counts the thresholds reached, from 0
        wrong = int((found != wanted.reshape(found.shape)).sum())
        total += wanted.size
        different += wrong
        where = where or (layer if wrong else "")
    for head, found, wanted in zip(program.heads, outputs, logits_of(program, values)):
        same = np.allclose(found, wanted, rtol=1e-6, atol=1e-6)
        where = where or ("" if same else f"{head.name}: logits")
    met = sum(
        int((values[k.inputs[0]][:, 0] / (1 if np.isinf(k.tau) else k.tau) == k.threshold).sum())
        for k in program.layers
        if k.op == "fire"
    )
    return Verdict("", "", bool(exact), different, total, where, met)
