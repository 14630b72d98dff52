"""Graphs as files beside each other: ``NAME.txt``, the text form, and ``NAME.safetensors``, its
tensors.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from neurocompile.errors import NeurocompileError
from neurocompile.files import read_input, write_output
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.circuit_rules import check_circuit
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.ir.spiking_rules import check_spiking

__all__ = ["Graph", "read_graph", "write_graph"]

Graph = SpikingGraph | CircuitGraph
_LARGEST_TEXT, _LARGEST_TENSORS = 1 << 28, 1 << 33


def write_graph(graph: Graph, folder: Path, name: str) -> Path:
    """Write ``graph`` to ``folder`` (made if it is not there); the path of its text.

    Raises:
        NeurocompileError: NC5005 for what cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NeurocompileError("NC5005", f"cannot make the folder '{folder}': {error}") from error
    path = folder / f"{name}.txt"
    tensors = {k: np.ascontiguousarray(v).reshape(v.shape) for k, v in graph.tensors.items()}
    write_output(path, graph.text().encode())
    write_output(path.with_suffix(".safetensors"), save_tensors(dict(sorted(tensors.items()))))
    return path


def read_graph(path: Path) -> Graph:
    """The graph of ``NAME.txt`` and, if it is there, ``NAME.safetensors``, checked by the rules of
    its stage.

    Raises:
        NeurocompileError: NC1001 for what cannot be read, NC2005 for what does not parse, NC2004
            for a graph that breaks a rule.
    """
    try:
        text = read_input(path, _LARGEST_TEXT).decode()
    except UnicodeDecodeError as error:
        raise NeurocompileError("NC2005", f"'{path}' is no text: {error}") from error
    beside, tensors = path.with_suffix(".safetensors"), {}
    if beside.exists():
        try:
            tensors = load_tensors(read_input(beside, _LARGEST_TENSORS))
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise NeurocompileError("NC2005", f"'{beside}' is not safetensors: {error}") from error
    if text.lstrip().startswith("circuit"):
        circuit = CircuitGraph.parse(text, tensors)
        check_circuit(circuit, f"reading '{path}'")
        return circuit
    graph = SpikingGraph.parse(text, tensors)
    check_spiking(graph, f"reading '{path}'")
    return graph
