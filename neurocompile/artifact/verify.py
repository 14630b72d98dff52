"""Check an artifact from its own content: hashes, resources of every core, and a few steps run
again.
"""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np

from neurocompile.archive import MALFORMED
from neurocompile.artifact.signature import check_signature
from neurocompile.artifact.store import MOST_LINES, load_program, signature_of
from neurocompile.backends.emulator import Emulator, emulate_cycles
from neurocompile.errors import ViolationList
from neurocompile.images import CoreImages
from neurocompile.images.build import ImageBuilder
from neurocompile.images.compare import differences
from neurocompile.images.size import image_usage
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.mapping import check_mapping
from neurocompile.mapping.mapping import count_traffic
from neurocompile.placing import lower_as
from neurocompile.program import Program
from neurocompile.proof import make_proof
from neurocompile.targets.shipped import unlike_shipped

__all__ = ["Verification", "verify"]

_MOST_VALUES = 1 << 27
"""Of a sample that is run cycle by cycle, in all populations and steps."""


class Verification(msgspec.Struct, frozen=True):
    """What was checked."""

    model: str
    members: int
    cores: int
    populations: int
    samples: int
    cycles: int
    """Global steps of the cycle-accurate run."""
    signed_by: str | None = None
    """Fingerprint of the key that a signature names."""
    images: int = 0
    """Core images that were compared with circuit and mapping; 0 if the artifact holds none."""
    trusted: bool = False
    """Whether the signature was checked against a key that the user trusts."""
    target: str = ""
    unlike_shipped: tuple[str, ...] | None = None
    """Fields in which the target differs from the shipped one of its name; None if none is shipped
    under it: its limits are its maker's word then.
    """


def verify(path: str | Path, trusted: str | Path | None = None) -> Verification:
    """Check ``path``; NC5001, NC5002 or NC5003 as :func:`load_program`, NC5004 for every other
    disagreement, NC5007 unless it is signed by the owner of ``trusted`` (a public key's PEM file),
    if that is given.

    Hashes and ranges are checked on loading. Then the quantized graph is lowered again and must
    give the circuit, tensors included; every core's resources, the least cores and the traffic are
    counted again from circuit, mapping and rates; the proof's samples are emulated again and
    compared with the recorded hash; and one more (of a folded model up to three, one behind the
    other) runs cycle by cycle, through the real delays and resets, and must give the same spikes.

    Not proven: that rates, calibration, import agreement and budget are those of any data, and
    that the quantized graph is the model that the manifest names. They are somebody's word.
    """
    manifest_bytes, signature = signature_of(path)
    if trusted is not None:  # before anything of a stranger is computed with
        check_signature(Path(path), manifest_bytes, signature, trusted)
    program = load_program(path)
    try:
        problems = _problems(program)
    except MALFORMED as error:  # what only a forged artifact holds
        problems = [f"it cannot be executed: {type(error).__name__}: {error}"]
    if problems:
        raise ViolationList("NC5004", [f"'{path}': {problem}" for problem in problems[:MOST_LINES]])
    circuit, manifest = program.circuit, program.manifest
    return Verification(
        manifest.model,
        len(manifest.members) + 2,
        program.mapping.cores_used,
        len(circuit.populations),
        manifest.proof.samples,
        _streamed(circuit) * circuit.sample_period + circuit.depth,
        None if signature is None else signature.key,
        0 if program.images is None else len(program.images.cores),
        trusted is not None,
        program.target.name,
        unlike_shipped(program.target),
    )


def _streamed(circuit: CircuitGraph) -> int:
    """Samples of the cycle-accurate run: of a folded circuit three, one behind the other, where their
    values fit into memory twice.
    """
    if circuit.windows == 1:
        return 1
    values = sum(p.size for p in circuit.populations) * circuit.sample_steps
    return max(1, min(3, _MOST_VALUES // values))


def _image_problems(program: Program, images: CoreImages) -> list[str]:
    """The images are those of circuit and mapping, and take of each core what the mapping records."""
    builder = ImageBuilder(program.circuit, program.mapping, program.target)
    problems = list(differences(images, builder))
    for i, (image, core) in enumerate(zip(images.cores, program.mapping.cores)):
        if not problems and image_usage(image, program.target) != core.used:
            problems.append(f"core {i}: its image takes other resources than the mapping records")
    return problems


def _problems(program: Program) -> list[str]:
    """In the order of what each step needs to be true: the circuit, its mapping, its steps."""
    circuit, manifest = program.circuit, program.manifest
    again = lower_as(program.quantized, manifest.options, program.target)
    same = again.tensors.keys() == circuit.tensors.keys() and all(
        np.array_equal(again.tensors[name], tensor) for name, tensor in circuit.tensors.items()
    )
    if again.text() != circuit.text() or not same:
        return ["lowering its quantized graph does not give its circuit"]
    problems = check_mapping(circuit, program.mapping, program.target)
    if problems:
        return problems
    if program.images is not None:
        problems = _image_problems(program, program.images)
        if problems:
            return problems
    counted = count_traffic(circuit, program.mapping, program.target, manifest.rates)
    problems = [
        f"the mapping records {getattr(program.mapping.traffic, name):,.9g} {name} a step, "
        f"counted are {getattr(counted, name):,.9g}"
        for name in counted.__struct_fields__
        if not math.isclose(
            getattr(program.mapping.traffic, name), getattr(counted, name), rel_tol=1e-9
        )
    ]
    proof = manifest.proof
    if make_proof(circuit, proof.samples, proof.seed) != proof:
        problems.append(
            f"the {proof.samples} proof samples do not reproduce: outputs differ from the recorded hash"
        )
    host = circuit.inputs[0]
    x = np.random.default_rng(proof.seed).integers(
        host.low, host.high + 1, (_streamed(circuit), *circuit.input_shape), dtype=np.int32
    )
    expected, stepped = Emulator().open(circuit).run(x), emulate_cycles(circuit, x)
    return problems + [
        f"population '{name}' differs between the depth-free and the cycle-accurate run"
        for name, values in expected.items()
        if not np.array_equal(values, stepped[name])
    ]
