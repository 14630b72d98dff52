"""Compile one random program and compare every spike with its meaning."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from front_ends import write_onnx
from programs import Program, logits_of, random_program, spikes_of

import neurocompile
from neurocompile.program import Program as Compiled

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


def judge_seed(seed: int) -> Verdict:
    """The program of ``seed``, through an ONNX file."""
    program = random_program(seed)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder, "program.onnx")
        write_onnx(program, path)
        x = program.x.astype(np.float32)
        try:
            compiled = neurocompile.compile(path, T=program.T, calibration=x)
        except neurocompile.NeurocompileError as error:
            return Verdict(refused=error.code, why=error.message)
        fired = dict(zip((v.layer for v in compiled.circuit.views), program.fired, strict=True))
        return judge(program, compiled, fired if program.written else None)


def judge_module(seed: int) -> Verdict:
    """The program of ``seed``, as a SpikingJelly module."""
    import torch
    from modules import Network

    program = random_program(seed)
    x = program.x.astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compiled = neurocompile.compile(
                Network(program).eval(), torch.as_tensor(x), T=program.T, calibration=x
            )
        except neurocompile.NeurocompileError as error:
            return Verdict(refused=error.code, why=error.message)
    fired = dict(zip((v.layer for v in compiled.circuit.views), program.fired, strict=True))
    return judge(program, compiled, fired)


def judge(program: Program, compiled: Compiled, names: Mapping[str, str] | None = None) -> Verdict:
    """Compare all layers, and the backends with each other; ``names`` has the program's name of a
    compiled layer, where they differ.
    """
    names, lowest = names or {}, {k.name: k.low for k in program.layers}
    x, values = program.x.astype(np.float32), spikes_of(program)
    exact = compiled.parity(x, against=("emulator",)).exact
    trace = compiled.trace(x)
    different, total, where = 0, 0, ""
    for view in compiled.circuit.views:
        layer = names.get(view.layer, view.layer)
        # the chip counts the thresholds that are reached, from 0
        found, wanted = view.read(trace[view.src]), values[layer] - lowest[layer]
        wrong = int((found != wanted.reshape(found.shape)).sum())
        total += wanted.size
        different += wrong
        where = where or (layer if wrong else "")
    outputs = list(compiled.run(x).outputs.values())
    for head, found, wanted in zip(program.heads, outputs, logits_of(program, values), strict=True):
        same = np.allclose(found, wanted, rtol=1e-6, atol=1e-6)
        where = where or ("" if same else f"{head.name}: logits")
    met = sum(
        int((values[k.inputs[0]][:, 0] / (1 if np.isinf(k.tau) else k.tau) == k.threshold).sum())
        for k in program.layers
        if k.op == "fire"
    )
    return Verdict("", "", exact, different, total, where, met)
