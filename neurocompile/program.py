"""A compiled program: what ``compile`` returns and an artifact holds, with everything one can do
with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neurocompile.advice import warn
from neurocompile.arrays import ArrayLike
from neurocompile.backends import get_backend
from neurocompile.backends.base import Executor, PlacedBackend, Trace
from neurocompile.backends.encoding import encode, share_outside
from neurocompile.calibration import Calibration
from neurocompile.data import check_inputs
from neurocompile.errors import NeurocompileError
from neurocompile.files import through_links
from neurocompile.gpu.devices import check_device
from neurocompile.guard import guarded
from neurocompile.ir.circuit import LIF, CircuitGraph, synapse_count
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.manifest import Manifest
from neurocompile.mapping import Mapping
from neurocompile.run_result import RunResult
from neurocompile.running import check_where, run_on_backend, run_on_device
from neurocompile.targets.schema import Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import nn

    from neurocompile.energy.report import EnergyReport
    from neurocompile.exports.sanafe import SanafeFiles
    from neurocompile.folding.search import FoldChoice
    from neurocompile.host.characters import CharacterPart
    from neurocompile.host.generate import Generated
    from neurocompile.host.part import HostPart
    from neurocompile.host.stream import ProgramStream
    from neurocompile.host.text import TextPart
    from neurocompile.images import CoreImages
    from neurocompile.parity.report import ParityReport
    from neurocompile.precision import LayerReport
    from neurocompile.summary import Summary

__all__ = ["Program"]


@dataclass(frozen=True)
class Program:
    """Integer model, circuit, mapping and how they came to be. Make one with
    :func:`neurocompile.compile`.
    """

    quantized: SpikingGraph
    circuit: CircuitGraph
    mapping: Mapping
    target: Target
    calibration: Calibration
    manifest: Manifest
    seconds: dict[str, float] = field(default_factory=dict, compare=False)
    """Time of each compilation stage; empty for a loaded program."""
    folds: tuple[FoldChoice, ...] = field(default=(), compare=False)
    """The Pareto front that the build chose from; empty for a loaded program, or one that was not
    to be folded.
    """

    host: HostPart | None = None
    """What the host computes of the chip's last values; None if these are what the model returns."""
    text_part: TextPart | CharacterPart | None = None
    """What the host makes of sentences in front of the chip; None if samples are numbers."""

    images: CoreImages | None = field(default=None, compare=False)
    """Images of all cores that the artifact holds; None if it holds none (backend ``cores`` then
    makes them).
    """
    precision: tuple[LayerReport, ...] = field(default=(), compare=False)
    """What quantization lost, layer by layer, the least agreement first; empty for a loaded
    program.
    """

    @property
    def fold(self) -> FoldChoice:
        """How the program is folded in time, and what that needs; ``fold.fold`` is ``none`` for an
        unrolled one.
        """
        from neurocompile.folding.search import choice_of

        rates = self.manifest.rates
        return choice_of(self.circuit, self.target, self.manifest.options.fold, rates)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input sample."""
        return self.quantized.input.sample_shape

    @property
    def frames(self) -> int:
        """Steps that each sample brings of its own (frames of events); 0 if it brings none."""
        return self.quantized.input.steps

    def checked(self, x: ArrayLike) -> np.ndarray:
        """``x`` as float32 (samples, *input shape), with a warning that says how much of it lies
        outside of the calibrated range, and is clipped to it; NC1006, NC1012 or NC1021.
        """
        x = check_inputs(self._embedded(x), self.input_shape, steps=self.frames)
        share, host = share_outside(self.circuit, x), self.circuit.inputs[0]
        if share:
            warn(
                f"{share:.2%} of the values of x lie outside of {host.low * host.scale:.4g}.."
                f"{host.high * host.scale:.4g}, the range of the calibration data, and are clipped to it: scale x as the "
                "calibration data were, or build with such samples (`calibration`)"
            )
        return x

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what runs: the circuit with its tensors, the target, and the host part. Side files carry it
        to say whose they are.
        """
        found = hashlib.sha256(self.circuit.text().encode())
        found.update(self.target.name.encode())
        for name, tensor in sorted(self.circuit.tensors.items()):
            found.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
            found.update(np.ascontiguousarray(tensor).data)
        if self.host is not None:
            found.update(self.host.content)
        if self.text_part is not None:
            found.update(self.text_part.content)
        return found.hexdigest()

    def with_text(self, text: TextPart | CharacterPart) -> Program:
        """The same program, which takes sentences too (``run(["a warm film"])``), in its artifact
        as well; NC1006 if ``text`` makes samples of another shape.
        """
        if text.shape != self.input_shape:
            raise NeurocompileError(
                "NC1006",
                f"the text part makes samples {list(text.shape)}, the program takes {list(self.input_shape)}",
            )
        return replace(self, text_part=text)

    def _embedded(self, x: ArrayLike) -> ArrayLike:
        """``x``, or what the host makes of it if it is one sentence or several."""
        texts = [x] if isinstance(x, str) else x
        if not isinstance(texts, (list, tuple)) or not texts or not isinstance(texts[0], str):
            return x
        if self.text_part is None:
            raise NeurocompileError(
                "NC1006",
                "this program takes numbers and has no tokenizer: give it what the model's embeddings make of the text, "
                "or build it with one (Program.with_text)",
            )
        if not all(isinstance(text, str) for text in texts):
            raise NeurocompileError("NC1006", "sentences and numbers in one list")
        return self.text_part(texts)

    def __repr__(self) -> str:
        return (
            f"<Program {self.manifest.model!r} on {self.target.name}: T = "
            f"{self.manifest.options.T}, {len(self.circuit.views)} layers, "
            f"{self.mapping.cores_used:,} of {self.target.cores:,} cores>"
        )

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    @guarded
    def energy(
        self,
        x: np.ndarray | None = None,
        profiles: Sequence[str | Path] = ("davies2018",),
        *,
        on_cores: bool = False,
        buffer: int | None = None,
        progress: bool = False,
    ) -> EnergyReport:
        """Spikes, operations, packets, energy and time (docs/energy.md).

        Args:
            x: float32 (samples, *input shape): counts are then measured on the emulator, otherwise
                modelled from the stored rates.
            on_cores: count ``x`` on core images (docs/core_images.md), message by message, and play
                it on the mesh under the first of ``profiles`` that has times.
            buffer: messages that each queue of a router holds there; None for any number.
            profiles: names of shipped energy profiles, or paths; ``target`` is the target's own.

        Raises:
            NeurocompileError: NC1015 for ``on_cores`` without ``x`` or ``buffer`` without ``on_cores``.
        """
        from neurocompile.energy.mesh import check_buffer, mesh_beside
        from neurocompile.energy.profile import load_profile, profile_of
        from neurocompile.energy.report import count_program, energy_report

        check_buffer(buffer, on_cores)
        chosen = [
            profile_of(self.target) if name == "target" else load_profile(name) for name in profiles
        ]
        x = None if x is None else self.checked(x)
        counts = count_program(self, x, on_cores=on_cores, progress=progress)
        if not on_cores or x is None:
            return energy_report(self, counts, chosen)
        mesh, why = mesh_beside(self, x, chosen, buffer)
        return energy_report(self, counts, chosen, mesh=mesh, notes=[why] if why else [])

    @guarded
    def plot(
        self,
        kind: str = "cores",
        path: str | Path | None = None,
        *,
        x: np.ndarray | None = None,
        sample: int = 0,
        buffer: int | None = None,
    ) -> Figure:
        """A picture of the program, written to ``path`` (.png or .svg) if one is given:
        :func:`neurocompile.report.pictures.draw`.
        """
        from neurocompile.report.pictures import check_picture, draw, save_picture

        check_picture(path)
        figure = draw(self, kind, x, sample, buffer)
        if path is not None:
            save_picture(figure, path)
        return figure

    @guarded
    def report(
        self,
        path: str | Path,
        x: np.ndarray | None = None,
        profiles: Sequence[str | Path] = (),
        *,
        parity: ParityReport | str | Path | None = None,
        on_cores: bool = False,
        buffer: int | None = None,
        progress: bool = False,
    ) -> None:
        """Write the page that ``neurocompile report`` writes:
        :func:`neurocompile.report.page.page_of`.
        """
        from neurocompile.report.page import page_of, write_page

        x = None if x is None else self.checked(x)
        text = page_of(
            self, x, profiles, parity=parity, on_cores=on_cores, buffer=buffer, progress=progress
        )
        write_page(text, Path(path))

    @guarded
    def save(
        self, path: str | Path, *, signing_key: str | Path | None = None, force: bool = False
    ) -> None:
        """Write the artifact, whole or not at all; signed with the Ed25519 key of a PEM file if one
        is given. ``force``: where the path is a symbolic link, the file that it names.
        """
        from neurocompile.artifact.store import save_program

        with through_links(force):
            save_program(self, path, signing_key)

    def text(self) -> str:
        """The circuit's text form (tensors by dtype and shape only)."""
        return self.circuit.text()

    @guarded
    def with_images(self) -> Program:
        """The program with the images of its cores (docs/core_images.md), which :meth:`save` keeps."""
        from neurocompile.images import build_images

        return replace(self, images=build_images(self.circuit, self.mapping, self.target))

    @guarded
    def save_images(self, path: str | Path, *, progress: bool = False) -> None:
        """Write the images of the cores to a file of their own, core by core (NC5005)."""
        from neurocompile.images.build import ImageBuilder
        from neurocompile.images.file import save_images

        save_images(ImageBuilder(self.circuit, self.mapping, self.target), path, progress=progress)

    @guarded
    def export_lava(self, path: str | Path) -> tuple[Path, Path]:
        """Write Python code for Lava, and its weights beside it (docs/exports.md): their paths."""
        from neurocompile.exports.lava import export_lava

        return export_lava(self, path)

    @guarded
    def export_nir(self, path: str | Path) -> Path:
        """Write the network as a NIR file (extra ``nir``), which :func:`compile` reads with
        ``discretize="euler"``; NC5009 for a layer that NIR cannot say.
        """
        from neurocompile.exports.nir import export_nir

        return export_nir(self.quantized, path)

    def export_sanafe(
        self, folder: str | Path, x: np.ndarray, *, profile: str = "davies2018"
    ) -> SanafeFiles:
        """Write SANA-FE's files of the sample ``x``, float32 (*input shape) (docs/exports.md)."""
        from neurocompile.exports.sanafe import export_sanafe

        return export_sanafe(self, x, folder, profile=profile)

    @guarded
    def summary(self) -> Summary:
        """Sizes, resources and expected spikes."""
        from neurocompile.summary import summarize

        return summarize(self)

    @guarded
    def run(
        self,
        x: np.ndarray,
        backend: str = "emulator",
        *,
        device: str = "cpu",
        rasters: bool = False,
        progress: bool = False,
        executor: Executor | None = None,
    ) -> RunResult:
        """Execute float32 ``x`` (samples, *input shape), or sentences where the program has a text
        part, on a backend: emulator, cores, lava, lava-runtime or loihi.

        With a ``device`` of torch (cuda: all GPUs, cuda:N, torch-cpu) in place of the emulator, the
        quantized model's integers are evaluated there: the same spikes and logits.

        ``rasters`` keeps every spike of every layer, which takes memory by samples. An ``executor`` that
        :meth:`open` gave for this backend is used and left open: many small runs need not make one each.
        """
        x = self.checked(x)
        check_where(backend, device, rasters)
        if check_device(device) != "cpu":
            ran = run_on_device(self.quantized, self.circuit, x, device, progress)
        else:
            opened = self.open(backend) if executor is None else nullcontext(executor)
            ran = run_on_backend(
                self.circuit, opened, x, backend, rasters=rasters, progress=progress
            )
        outputs, stepwise = self.outputs(np.concatenate(ran.cuts))
        return RunResult(
            ran.name,
            ran.banner,
            outputs[self.main],
            ran.spikes,
            ran.neuron_steps,
            stepwise.get(self.main),
            share_outside(self.circuit, x),
            outputs,
            ran.rasters,
        )

    @property
    def main(self) -> str:
        """Name of the output that predictions and labels are about."""
        return self.quantized.output.name if self.host is None else self.host.main

    @property
    def output_shapes(self) -> dict[str, list[int]]:
        """Shape of a sample of each output, by name."""
        if self.host is not None:
            return {o.name: list(o.shape) for o in self.host.outputs}
        readout = self.circuit.readouts[0]
        shape = readout.shape
        size = self.circuit.population[readout.src].size
        return {self.main: list((size,) if shape is None else shape)}

    @property
    def output_names(self) -> tuple[str, ...]:
        """Of what the model returns, in its order."""
        if self.host is None:
            return (self.main,)
        return tuple(o.name for o in self.host.outputs)

    def outputs(self, cut: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """What the model returns, float64 (samples, ...) by name, of what the chip gives; and the
        values at every step, (samples, T, ...), of what it returns at every step.

        Args:
            cut: the chip's (samples, ...), or (samples, T, ...) where the readout is ``per_step``.
        """
        if self.host is not None:
            return self.host.run(cut)
        if not self.circuit.readouts[0].per_step:
            return {self.main: cut}, {}
        return {self.main: cut.mean(axis=1)}, {self.main: cut}

    @guarded
    def trace(
        self, x: np.ndarray, record: Collection[str] | None = None, backend: str = "emulator"
    ) -> Trace:
        """Every population's output (or those of ``record``): name -> (samples, T, *shape)."""
        x = self.checked(x)
        with self.open(backend) as executor:
            return executor.run(encode(self.circuit, x), record)

    @guarded
    def stream(self) -> ProgramStream:
        """One sample on the emulator whose steps come in parts: state is kept from part to part, and
        the parts give what the whole sample gives. NC1006 for a folded program, one whose input is one for
        all steps, or whose outputs are means over a sample.
        """
        from neurocompile.host.stream import ProgramStream

        return ProgramStream(self)

    @guarded
    def generate(
        self,
        prompt: str,
        characters: int = 40,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        backend: str = "emulator",
        device: str = "cpu",
        progress: bool = False,
    ) -> Generated:
        """Go on with ``prompt``, character by character (:mod:`neurocompile.host.generate`): the
        likeliest at temperature 0, else drawn; NC1006 for a program that writes no text, NC1015.
        """
        from neurocompile.host.generate import generate

        return generate(
            self,
            prompt,
            characters,
            temperature=temperature,
            seed=seed,
            backend=backend,
            device=device,
            progress=progress,
        )

    def open(self, backend: str = "emulator") -> Executor:
        """The program made ready to run on a backend; NC4001, NC4002, NC4004 or NC4005."""
        engine = get_backend(backend)
        if isinstance(engine, PlacedBackend):
            return engine.open_placed(self.circuit, self.mapping, self.target, self.images)
        return engine.open(self.circuit)

    @guarded
    def parity(
        self,
        x: np.ndarray,
        y: np.ndarray | None = None,
        *,
        against: Sequence[str] = ("emulator", "lava"),
        reference: str | Path | nn.Module | None = None,
        example_input: ArrayLike | None = None,
        device: str = "cpu",
        progress: bool = False,
    ) -> ParityReport:
        """Compare with backends, spike for spike, and with the float model:
        :func:`neurocompile.parity.check.parity`.
        """
        from neurocompile.parity.check import parity

        return parity(
            self,
            x,
            y,
            against=against,
            reference=reference,
            example_input=example_input,
            device=device,
            progress=progress,
        )

    @property
    def spiking_neurons(self) -> int:
        """Neurons that emit spikes (not graded values)."""
        return sum(p.size for p in self.circuit.populations if isinstance(p, LIF))

    @property
    def synapses(self) -> int:
        """Connections, unrolled."""
        return sum(synapse_count(self.circuit, p) for p in self.circuit.projections)
