"""Program <-> .nca file.

Members: ``manifest.json`` (with the SHA-256 of the others), ``quantized.txt`` and ``circuit.txt``
(text forms), ``weights.safetensors`` (the integer tensors of both), ``mapping.json``,
``target.json``, ``calibration.json``, ``host.onnx`` and ``text.safetensors`` where the host computes
the last part of the model, or makes its input of sentences (:mod:`neurocompile.host`), and
``versions.json``: the only member that differs between two Pythons, so it carries its own hash.
"""

from __future__ import annotations

import io
import platform
from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from neurocompile.archive import MALFORMED, read_archive, sha256, write_archive
from neurocompile.artifact.meaning import meaning_problems
from neurocompile.artifact.signature import Signature, load_signing_key, sign
from neurocompile.calibration import Calibration
from neurocompile.errors import NeurocompileError, ViolationList
from neurocompile.files import as_path
from neurocompile.guard import guarded
from neurocompile.host.characters import CharacterPart, text_part_of
from neurocompile.host.check import ONNX_ERRORS
from neurocompile.host.part import HostPart
from neurocompile.host.text import TextPart
from neurocompile.images.file import read_images, write_images
from neurocompile.images.names import names_of
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.circuit_rules import check_circuit
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.ir.spiking_rules import check_spiking
from neurocompile.manifest import SCHEMA_VERSION, Manifest
from neurocompile.mapping import Mapping
from neurocompile.program import Program
from neurocompile.targets.schema import Target

__all__ = ["MOST_LINES", "load_program", "save_program", "signature_of"]

SIGNATURE = "signature.json"
HOST = "host.onnx"
TEXT = "text.safetensors"
IMAGES = "images.nci"
_OPTIONAL = (HOST, TEXT, IMAGES, SIGNATURE)
"""Members that an artifact may lack."""
MOST_LINES = 20
"""Of what is wrong with one artifact, to be read by a person."""

_LIBRARIES = ("numpy", "numba", "onnx", "onnxruntime", "msgspec", "safetensors")
_MEMBERS = (
    "manifest.json",
    "quantized.txt",
    "circuit.txt",
    "weights.safetensors",
    "mapping.json",
    "target.json",
    "calibration.json",
    "versions.json",
)


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=1)


def _versions() -> bytes:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return _json({"sha256": sha256(_json(found)), "versions": found})


def save_program(program: Program, path: str | Path, signing_key: str | Path | None = None) -> None:
    """Write ``program`` to ``path``, whole or not at all (NC5005).

    Args:
        signing_key: PEM file of an Ed25519 private key that vouches for it (NC5006).
    """
    path = as_path(path, "NC5005")
    key = None if signing_key is None else load_signing_key(signing_key)
    tensors = {f"quantized:{k}": v for k, v in program.quantized.tensors.items()}
    tensors |= {f"circuit:{k}": v for k, v in program.circuit.tensors.items()}
    members = {
        "quantized.txt": program.quantized.text().encode(),
        "circuit.txt": program.circuit.text().encode(),
        "weights.safetensors": save_tensors(
            {k: np.ascontiguousarray(v).reshape(v.shape) for k, v in sorted(tensors.items())}
        ),
        "mapping.json": program.mapping.to_json(),
        "target.json": _json(program.target),
        "calibration.json": _json(program.calibration),
    }
    if program.host is not None:
        members[HOST] = program.host.content
    if program.text_part is not None:
        members[TEXT] = program.text_part.content
    if program.images is not None:
        buffer = io.BytesIO()
        write_images(buffer, program.images)
        members[IMAGES] = buffer.getvalue()
    manifest = msgspec.structs.replace(
        program.manifest, members={name: sha256(data) for name, data in sorted(members.items())}
    )
    header = _json(manifest)
    signature = {} if key is None else {SIGNATURE: _json(sign(header, key))}
    write_archive(
        path, {"manifest.json": header, **members, "versions.json": _versions(), **signature}
    )


def signature_of(path: str | Path) -> tuple[bytes, Signature | None]:
    """An artifact's manifest and, if it has one, its signature, neither of them checked."""
    path = Path(path)
    members = read_archive(path, _MEMBERS, _OPTIONAL)
    found = _decode(path, SIGNATURE, members, Signature) if SIGNATURE in members else None
    return members["manifest.json"], found


@guarded
def load_program(path: str | Path) -> Program:
    """Read and check an artifact; NC1001, NC5001 (not an artifact), NC5002 (damaged), NC5003
    (other schema) or NC5004 (figures that cannot be true, or of another program).
    """
    path = as_path(path, "NC1001")
    members = read_archive(path, _MEMBERS, _OPTIONAL)
    manifest = _intact(path, members)
    quantized, circuit, host, text = _graphs(path, members)
    program = Program(
        quantized=quantized,
        circuit=circuit,
        manifest=manifest,
        mapping=_decode(path, "mapping.json", members, Mapping),
        target=_decode(path, "target.json", members, Target),
        calibration=_decode(path, "calibration.json", members, Calibration),
        host=host,
        text_part=text,
        images=read_images(io.BytesIO(members[IMAGES]), path) if IMAGES in members else None,
    )
    _check_meaning(path, program)
    return program


def _intact(path: Path, members: dict[str, bytes]) -> Manifest:
    """The manifest of members that are what it says; NC5001, NC5002 and NC5003."""
    header = _decode(path, "manifest.json", members, dict)
    if header.get("schema") != SCHEMA_VERSION:
        raise NeurocompileError(
            "NC5003",
            f"'{path}' has schema {header.get('schema')!r}, this neurocompile reads {SCHEMA_VERSION}; build it again",
        )
    manifest = _decode(path, "manifest.json", members, Manifest)
    if manifest.options.T is None or manifest.options.weight_bits is None:
        raise NeurocompileError("NC5001", f"'{path}': its manifest leaves T or weight_bits open")
    for name, data in members.items():
        if name in ("manifest.json", "versions.json", SIGNATURE):
            continue
        if manifest.members.get(name) != sha256(data):
            raise NeurocompileError(
                "NC5002",
                f"'{path}': member '{name}' is damaged (SHA-256 differs from the manifest)",
            )
    versions = _decode(path, "versions.json", members, dict)
    if versions.get("sha256") != sha256(_json(versions.get("versions"))):
        raise NeurocompileError(
            "NC5002", f"'{path}': member 'versions.json' is damaged (SHA-256 differs)"
        )
    return manifest


def _graphs(
    path: Path, members: dict[str, bytes]
) -> tuple[SpikingGraph, CircuitGraph, HostPart | None, TextPart | CharacterPart | None]:
    """Both graphs and what the host does, each by its rules; NC5001."""
    try:
        tensors = load_tensors(members["weights.safetensors"])
    except (SafetensorError, ValueError, KeyError) as error:
        raise NeurocompileError(
            "NC5001", f"'{path}': weights are not safetensors: {error}"
        ) from error

    def member(kind: str) -> tuple[str, dict[str, np.ndarray]]:
        own = {k.split(":", 1)[1]: v for k, v in tensors.items() if k.startswith(f"{kind}:")}
        return members[f"{kind}.txt"].decode("utf-8", "replace"), own

    try:
        quantized = SpikingGraph.parse(*member("quantized"))
        circuit = CircuitGraph.parse(*member("circuit"))
        if quantized.stage != "quantized":
            raise ValueError("the quantized graph is of another stage")
        check_spiking(quantized, "load")
        check_circuit(circuit, "load")
        tuple(circuit.topological())  # no cycle
        if not _has_ends(circuit):
            raise ValueError("a circuit has one input, one readout and at least one step")
        _check_input(quantized, circuit)
        host = HostPart.of(members[HOST]) if HOST in members else None
        _check_host(host, circuit)
        text = text_part_of(members[TEXT]) if TEXT in members else None
        if text is not None and text.shape != quantized.input.sample_shape:
            raise ValueError("the text part makes other samples than the circuit takes")
    except NeurocompileError as error:  # of the text (NC2005), or of the rules that passes keep
        raise NeurocompileError(
            "NC5001", f"'{path}': a graph or its host part is malformed: {error.message}"
        ) from error
    except (*MALFORMED, *ONNX_ERRORS) as error:  # a field of another type, written by a stranger
        raise NeurocompileError(
            "NC5001",
            f"'{path}': a graph or its host part is malformed: {type(error).__name__}: {error}",
        ) from error
    return quantized, circuit, host, text


def _check_meaning(path: Path, program: Program) -> None:
    """NC5004 for figures that cannot be true, or are another program's."""
    try:
        problems = meaning_problems(program)
        if program.images is not None and program.images.names != names_of(
            program.circuit, program.target, program.mapping
        ):
            problems.append("its core images are those of another program")
    except MALFORMED as error:
        problems = [f"it cannot be checked: {type(error).__name__}: {error}"]
    if problems:
        raise ViolationList("NC5004", [f"'{path}': {problem}" for problem in problems[:MOST_LINES]])


def _has_ends(circuit: CircuitGraph) -> bool:
    """One input (or, folded, its pieces first) and one readout."""
    inputs = circuit.inputs
    one = len(inputs) == 1 if circuit.windows == 1 else bool(inputs) and bool(inputs[0].places)
    return one and len(circuit.readouts) == 1 and circuit.steps >= 1 and circuit.windows >= 1


def _check_host(host: HostPart | None, circuit: CircuitGraph) -> None:
    """ValueError unless the host part reads what the circuit gives."""
    if host is None:
        return
    readout, cut = circuit.readouts[0], host.interface
    if cut.elements != circuit.population[readout.src].size or cut.stepwise != readout.per_step:
        raise ValueError("the host part reads other values than the circuit gives")
    if cut.steps not in (0, circuit.steps):
        raise ValueError(f"the host part is for {cut.steps} steps, the circuit has {circuit.steps}")


def _check_input(quantized: SpikingGraph, circuit: CircuitGraph) -> None:
    """ValueError unless samples of the one graph are samples of the other."""
    host, source = circuit.inputs[0], quantized.input
    axes = host.source_axes or tuple(range(len(source.shape)))
    fits = sorted(axes) == list(range(len(source.shape))) and prod(source.shape) == prod(
        host.sample_shape or host.shape
    )
    if not fits or source.steps != (circuit.steps if host.stepwise else 0):
        raise ValueError(
            f"the circuit's input is {list(circuit.input_shape)}, the quantized graph's {list(source.sample_shape)}"
        )


def _decode(path: Path, name: str, members: dict[str, bytes], kind: Any) -> Any:
    try:
        return msgspec.json.decode(members[name], type=kind)
    except (
        msgspec.DecodeError,
        UnicodeDecodeError,
        RecursionError,
        NeurocompileError,  # an option out of range
    ) as error:
        raise NeurocompileError(
            "NC5001", f"'{path}': member '{name}' is malformed: {error}"
        ) from error
