"""``neurocompile parity``: the program against backends, spike for spike, and against the float
model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurocompile.cli.common import Artifact, Device, Input, Json, Output, Samples, command, say
from neurocompile.cli.model_options import source_of
from neurocompile.errors import NeurocompileError

if TYPE_CHECKING:
    from neurocompile.parity.report import FloatParity, ParityReport


@command
def parity(
    artifact: Artifact,
    samples_file: Input,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="B,B,...",
            help="Of emulator, cores, lava, lava-runtime, loihi. By default emulator,lava.",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Compare with this float model too: what 'build' was given, a file or package.module:function.",
        ),
    ] = None,
    device: Device = "cpu",
    samples: Samples = None,
    json_output: Json = False,
) -> Output:
    """Compare with backends and the float model.

    The exact half is spike for spike: exit code 1 on any difference. The float half, with
        --reference, says how many
    spikes agree with the float model, layer by layer.
    """
    backends = None if against is None else _names(against)

    from neurocompile.artifact.store import load_program
    from neurocompile.data import load_samples

    program = load_program(artifact)
    data = load_samples(samples_file, program.input_shape, samples, program.frames)
    chosen = backends or _installed()
    source, example = None, None
    if reference is not None:
        source, example, _ = source_of(reference)
    report = program.parity(
        data.x,
        data.y,
        against=chosen,
        reference=source,
        example_input=example,
        device=device,
        progress=True,
    )
    for found in report.backends:
        if found.first is not None:
            say(
                "error",
                NeurocompileError(
                    "NC4006", f"'{found.backend}' and {found.expected} disagree: {found.first}"
                ),
            )
    return Output(_data(report), _text(report), 0 if report.exact else 1)


def _names(text: str) -> list[str]:
    """Backends of a comma-separated list, each once; NC4005 for unknown ones, before any of them
    runs.
    """
    from neurocompile.backends import get_backend

    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise typer.BadParameter("name at least one backend", param_hint="--against")
    for name in names:
        get_backend(name)
    return names


def _installed() -> list[str]:
    """The emulator, and Lava in this process if it is installed."""
    from neurocompile.backends.lava.compat import require_lava

    try:
        require_lava()
    except NeurocompileError as error:
        say("note", f"compared with the emulator only: {error}")
        return ["emulator"]
    return ["emulator", "lava"]


def _data(report: ParityReport) -> dict[str, Any]:
    import msgspec

    totals = {k: sum(getattr(b, k) for b in report.backends) for k in ("values", "differences")}
    found = {"exact": report.exact, **totals, **msgspec.to_builtins(report)}
    if report.reference is not None:
        for entry, layer in zip(found["reference"]["layers"], report.reference.layers, strict=True):
            entry["rate_error"] = layer.rate_error
    return found


def _text(report: ParityReport) -> Iterator[Any]:
    from neurocompile.cli.tables import table

    yield f"{report.model}, T = {report.T}\n"
    for backend in report.backends:
        yield f"{backend.backend}: {backend.banner}"
    yield ""
    yield "exact half: integers, every sample and step\n"
    yield table(
        ("backend", "against", ">samples", ">populations", ">values", ">differences", ">seconds"),
        [
            (
                b.backend,
                b.expected,
                f"{b.samples:,}",
                f"{b.populations:,}",
                f"{b.values:,}",
                f"{b.differences:,}",
                f"{b.seconds:.2f}",
            )
            for b in report.backends
        ],
    )
    wrong = [(b.backend, b.first) for b in report.backends if b.first is not None]
    if wrong:
        yield "\nfirst difference\n"
        yield table(
            (
                "backend",
                "layer",
                "population",
                ">neuron",
                ">sample",
                ">step",
                ">expected",
                ">found",
            ),
            [
                (b, d.layer, d.population, list(d.neuron), d.sample, d.step, d.expected, d.found)
                for b, d in wrong
            ],
        )
    values, differences = (
        sum(getattr(b, k) for b in report.backends) for k in ("values", "differences")
    )
    yield f"\n{'exact' if report.exact else 'NOT EXACT'}: {differences:,} differences in {values:,} values\n"
    if report.host:
        yield f"integers up to what the host reads; behind it the host computes in float32 ({', '.join(report.host)})"
    if report.reference is None:
        yield "the float half was left out: give --reference MODEL.onnx"
    else:
        yield from _float_half(report.reference)


def _float_half(half: FloatParity) -> Iterator[Any]:
    from neurocompile.cli.tables import table

    yield f"float half: {half.reference}, against the quantized model, {half.samples:,} samples\n"
    yield table(
        ("layer", ">agreement", ">rate, float", ">rate, quantized", ">rate error"),
        [
            (
                k.layer,
                f"{k.agreement:.3%}",
                f"{k.rate_reference:.4f}",
                f"{k.rate_quantized:.4f}",
                f"{k.rate_error:+.4f}",
            )
            for k in half.layers
        ],
    )
    yield f"\nfirst to part  {half.parts or 'no layer: every spike agrees'}"
    if half.same_predictions is not None:
        yield f"predictions    {half.same_predictions:.2%} the same"
    else:
        yield f"outputs        differ by {half.output_error:.2%} of their root mean square"
    if len(half.heads) > 1:
        yield "\noutputs, against the float model's\n"
        yield table(
            ("output", "shape", ">error", ">same predictions"),
            [
                (
                    h.name,
                    str(h.shape),
                    f"{h.output_error:.2%}",
                    "" if h.same_predictions is None else f"{h.same_predictions:.2%}",
                )
                for h in half.heads
            ],
        )
    if half.accuracy_reference is not None and half.accuracy_quantized is not None:
        yield f"accuracy       float {half.accuracy_reference:.2%}, quantized {half.accuracy_quantized:.2%}"
