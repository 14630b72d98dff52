"""The named stages from a model to a program: import, canonicalize, quantize, lower (and schedule),
map.
"""

from __future__ import annotations

import warnings
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurocompile.artifact.manifest import SCHEMA_VERSION, Manifest, Options
from neurocompile.backends.emulator import Emulator
from neurocompile.backends.encoding import encode
from neurocompile.calibration import (
    Calibration,
    calibrate_on,
    calibration_from_metadata,
    calibration_from_weights,
)
from neurocompile.data import check_inputs, load_samples
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx.importer import ImportedModel, import_onnx
from neurocompile.frontends.onnx.lif import DOMAIN
from neurocompile.frontends.onnx.load import LoadedModel, load_onnx, with_head
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.evaluate import evaluate
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.mapping import map_circuit, precompile
from neurocompile.mapping.estimate import Estimate, estimate
from neurocompile.mapping.rates import measured_rates, modelled_rates
from neurocompile.passes.canonicalize import canonicalize
from neurocompile.passes.compose_convolutions import ComposeConvolutions
from neurocompile.passes.lower import lower
from neurocompile.passes.narrow_weights import narrow_weights
from neurocompile.passes.quantize import Quantize
from neurocompile.passes.schedule import schedule
from neurocompile.program import Program, make_proof
from neurocompile.progress import Stages
from neurocompile.reference.onnx import run_onnx, run_original
from neurocompile.targets import load_target
from neurocompile.targets.schema import Target
from neurocompile.theory.budget import apply_budget, parse_budget, plan_budget

if TYPE_CHECKING:
    from torch import nn

__all__ = ["build_circuit", "compile_model", "estimate_model", "import_model"]

_CHECK_SAMPLES = 4
_LEAST_AGREEMENT = 0.98
"""Share of equal spikes below which an import is refused: rounding flips a spike in thousands, not
one in fifty.
"""
_RATE_SAMPLES = 32
_PROOF_SAMPLES = 2


def import_model(
    path: str | Path,
    T: int | None = None,
    *,
    per_sample_lif: bool = False,
    head: int | str | None = None,
) -> tuple[LoadedModel, ImportedModel]:
    """Read, check and import an ONNX file; its neurons are recovered if it has none of ours.

    Args:
        T: steps to write out where the file holds one step, with the membranes as inputs and
            outputs.
        per_sample_lif: a LIF over time and batch runs for each sample alone.
        head: the output to import, by name or number, if there are several.
    """
    loaded = load_onnx(path)
    ours = any(node.domain == DOMAIN for node in loaded.proto.graph.node)
    if ours:
        loaded = loaded.rewritten(with_head(loaded.proto, head), recovered=False)
    else:
        from neurocompile.frontends.onnx.recover import recover_lif

        try:
            loaded = loaded.rewritten(recover_lif(loaded.proto, head=head))
        except NeurocompileError as error:
            if error.code != "NC1007" or T is None:  # NC1007: a file of one step
                raise
            loaded = loaded.rewritten(recover_lif(loaded.proto, T, head=head))
    return loaded, import_onnx(loaded, Path(path).stem, per_sample_lif=per_sample_lif)


def compile_model(
    model: str | Path | nn.Module,
    example_input: Any = None,
    *,
    target: str | Path = "loihi2",
    T: int = 4,
    calibration: np.ndarray | str | Path | None = None,
    weight_bits: int | None = None,
    seed: int = 0,
    max_cores: int | None = None,
    budget: str | None = None,
    per_sample_lif: bool = False,
    head: int | str | None = None,
    convolutions: str = "auto",
    progress: bool = False,
) -> Program:
    """Compile a model for a target.

    Args:
        model: path of an ONNX file (``neurocompile.export_onnx`` writes one), or a SpikingJelly
            module.
        example_input: for a module: float32 (samples, ...), to trace it with.
        target: name of a shipped target, or path of a YAML file.
        T: steps a sample, >= 1; need not be the T that the file was exported with, unless samples
            bring their own steps.
        calibration: float32 (samples, *input shape), or the path of an .npz file with such an
            ``x``. Without it the statistics that ``export_onnx`` stored are used; without these the
            weights alone, with a warning.
        weight_bits: 2..8, sign included; by default 8, or as many as the target has.
        seed: of placement and of the proof inputs.
        max_cores: use at most so many cores.
        budget: of spikes, ``epsilon=E`` or ``spikes=N`` (:mod:`neurocompile.theory.budget`): one
            more capacity of a core.
        per_sample_lif: a LIF whose leading axis is time and batch runs for each sample alone;
            otherwise it is refused.
        head: which output, if there are several: the name in a file, the number of the tensor a
            module returns.
        convolutions: of convolutions without a neuron between them (RepConv): ``merge`` to one,
            keep each ``factor``, or ``auto``, what takes fewer cores.
        progress: show stages on stderr, if it is a terminal.

    Raises:
        NeurocompileError: with the code of what is wrong.
    """
    T = _whole("NC1007", "T", T, 1, 1 << 16)
    weight_bits = (
        None if weight_bits is None else _whole("NC2003", "weight_bits", weight_bits, 2, 8)
    )
    seed = _whole("NC1015", "seed", seed, 0, (1 << 32) - 1)
    max_cores = None if max_cores is None else _whole("NC1015", "max_cores", max_cores, 1, 1 << 32)
    request = None if budget is None else parse_budget(budget)
    if not isinstance(model, (str, Path)):
        from neurocompile.frontends.torch.module import exported

        samples = calibration if isinstance(calibration, np.ndarray) else None
        with exported(
            model, example_input, samples, T=T, per_sample_lif=per_sample_lif, head=head
        ) as path:
            return compile_model(
                path,
                target=target,
                T=T,
                calibration=calibration,
                weight_bits=weight_bits,
                seed=seed,
                max_cores=max_cores,
                budget=budget,
                convolutions=convolutions,
                progress=progress,
            )
    stages = Stages(progress)
    chip = load_target(target)
    weight_bits = weight_bits or _bits_of(chip)
    precompile.start()
    with stages("import"):
        loaded, imported = import_model(model, T, per_sample_lif=per_sample_lif, head=head)
        imported.graph.input.check_steps(T)
        samples = _samples(calibration, imported.graph.input.sample_shape)
        stored = calibration_from_metadata(loaded.metadata)
    with stages("check import"):
        agreement = _check_import(loaded, imported, stored, samples)
    with stages("canonicalize"):
        canonical = canonicalize(imported.graph, _compose(convolutions, chip))
    with stages("calibrate"):
        statistics = _statistics(canonical, stored, samples, T)
    with stages("quantize"):
        quantized = Quantize(T, statistics, weight_bits)(canonical)
    with stages("lower"):
        circuit = build_circuit(quantized, T, weight_bits, chip)
    with stages("rates"):
        if samples is None:
            rates, source = (
                modelled_rates(circuit, statistics),
                f"modelled from calibration ({statistics.source})",
            )
        else:
            few = encode(circuit, samples[:_RATE_SAMPLES])
            rates, source = (
                measured_rates(Emulator().open(circuit).run(few)),
                f"measured on {len(few)} samples",
            )
    with stages("map"):
        mapping = map_circuit(circuit, chip, rates, seed=seed, max_cores=max_cores)
    planned = None
    if request is not None:
        with stages("budget"):
            planned = plan_budget(request, quantized, circuit, rates, samples, mapping.cores_used)
            again = partial(map_circuit, circuit, chip, rates, seed=seed, max_cores=max_cores)
            planned, mapping = apply_budget(planned, circuit, rates, mapping, again)
    with stages("prove"):
        proof = make_proof(circuit, _PROOF_SAMPLES, seed)
    manifest = Manifest(
        schema=SCHEMA_VERSION,
        tool=version("neurocompile"),
        model=imported.graph.name,
        source_sha256=loaded.sha256,
        exported_T=imported.graph.exported_T,
        options=Options(
            chip.name,
            T,
            weight_bits,
            seed,
            max_cores,
            request and request.text,
            per_sample_lif,
            head,
            convolutions,
        ),
        import_agreement=agreement,
        rates=rates,
        rates_source=source,
        proof=proof,
        budget=planned,
    )
    return Program(quantized, circuit, mapping, chip, statistics, manifest, dict(stages.seconds))


def estimate_model(
    model: str | Path | nn.Module,
    example_input: Any = None,
    *,
    target: str | Path = "loihi2",
    T: int = 4,
    calibration: np.ndarray | str | Path | None = None,
    weight_bits: int | None = None,
    max_cores: int | None = None,
    per_sample_lif: bool = False,
    head: int | str | None = None,
    convolutions: str = "auto",
    progress: bool = False,
) -> Estimate:
    """Least cores that a model needs of a target, and everything that rules it out; nothing is
    mapped, checked or written.

    Args and errors are those of :func:`compile_model`.
    """
    T = _whole("NC1007", "T", T, 1, 1 << 16)
    weight_bits = (
        None if weight_bits is None else _whole("NC2003", "weight_bits", weight_bits, 2, 8)
    )
    if not isinstance(model, (str, Path)):
        from neurocompile.frontends.torch.module import exported

        samples = calibration if isinstance(calibration, np.ndarray) else None
        options = {"per_sample_lif": per_sample_lif, "head": head, "compare": False}
        with exported(model, example_input, samples, T=T, **options) as path:
            return estimate_model(
                path,
                target=target,
                T=T,
                calibration=calibration,
                weight_bits=weight_bits,
                max_cores=max_cores,
                convolutions=convolutions,
                progress=progress,
            )
    stages = Stages(progress)
    chip = load_target(target)
    weight_bits = weight_bits or _bits_of(chip)
    with stages("import"):
        loaded, imported = import_model(model, T, per_sample_lif=per_sample_lif, head=head)
        imported.graph.input.check_steps(T)
        samples = _samples(calibration, imported.graph.input.sample_shape)
        canonical = canonicalize(imported.graph, _compose(convolutions, chip))
    with stages("quantize"):
        statistics = _statistics(canonical, calibration_from_metadata(loaded.metadata), samples, T)
        quantized = Quantize(T, statistics, weight_bits, most_weights=1 << 14)(canonical)
    with stages("estimate"):
        return estimate(build_circuit(quantized, T, weight_bits, chip), chip, max_cores=max_cores)


def _compose(convolutions: str, target: Target) -> ComposeConvolutions:
    """The choice between products and factors for the cores of ``target``."""
    core = target.capacity
    return ComposeConvolutions(convolutions, core["neurons"], core["synaptic_memory_words"])


def build_circuit(
    quantized: SpikingGraph, T: int, weight_bits: int, target: Target
) -> CircuitGraph:
    """Lower a quantized graph and schedule it for ``target``, weights of circuits in its bits."""
    scheduled = schedule(
        lower(quantized, T, weight_bits),
        max_spike_delay=target.delay.max_spike_delay.value,
        power_of_two_period=target.reset.power_of_two.value,
    )
    return narrow_weights(scheduled, target.synapse.weight_bits.high)


def _bits_of(target: Target) -> int:
    """Weight bits where none are asked for: the target's, from 2 to 8, which is what the quantizer
    makes.
    """
    return min(max(target.synapse.weight_bits.high, 2), 8)


def _whole(code: str, name: str, value: Any, low: int, high: int) -> int:
    """``value`` as a Python int within ``low``..``high``, or an error with ``code``."""
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, np.integer))
        or not low <= value <= high
    ):
        raise NeurocompileError(
            code, f"{name} is {value!r}; an integer from {low:,} to {high:,} is needed"
        )
    return int(value)


def _samples(
    calibration: np.ndarray | str | Path | None, shape: tuple[int, ...]
) -> np.ndarray | None:
    if isinstance(calibration, (str, Path)):
        return load_samples(calibration, shape).x
    return None if calibration is None else check_inputs(calibration, shape, "calibration 'x'")


def _statistics(
    graph: SpikingGraph, stored: Calibration | None, samples: np.ndarray | None, T: int
) -> Calibration:
    if samples is not None:
        return calibrate_on(graph, samples, T)
    if stored is not None:
        return stored
    warnings.warn(
        "no calibration data and no statistics in the file: quantizing from the weights alone, with inputs taken to lie "
        "within -4..4; give --calibration X.npz for better accuracy and true rates",
        stacklevel=3,
    )
    return calibration_from_weights(T)


def _check_import(
    loaded: LoadedModel,
    imported: ImportedModel,
    stored: Calibration | None,
    samples: np.ndarray | None,
) -> float:
    """Share of equal spikes of the file in onnxruntime and the imported graph, on one batch; NC1011
    if it is low.
    """
    graph = imported.graph
    if samples is None:
        bounds = stored.input if stored else calibration_from_weights(1).input
        shape = (_CHECK_SAMPLES, *graph.input.sample_shape)
        samples = np.random.default_rng(0).uniform(bounds.min, bounds.max, shape).astype(np.float32)
    x = samples[:_CHECK_SAMPLES]
    reference = run_onnx(loaded, imported, x)
    ours = evaluate(graph, x, max(graph.exported_T, 1), list(reference.layers))
    original = run_original(loaded, imported, x)
    if original is not None and not np.allclose(original, reference.logits, rtol=1e-3, atol=1e-4):
        worst = float(np.abs(original - reference.logits).max())
        raise NeurocompileError(
            "NC1011",
            f"'{loaded.path}': its outputs change by up to {worst:.3g} once its neurons are recovered; please "
            "report the file",
        )
    equal = sum(int((ours[k] == v).sum()) for k, v in reference.layers.items())
    agreement = equal / max(sum(v.size for v in reference.layers.values()), 1)
    if agreement < _LEAST_AGREEMENT:
        raise NeurocompileError(
            "NC1011",
            f"'{loaded.path}': only {agreement:.2%} of the spikes agree with onnxruntime after import "
            f"({_LEAST_AGREEMENT:.0%} needed); please report the file",
        )
    return float(f"{agreement:.9g}")
