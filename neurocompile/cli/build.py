"""``neurocompile build``: an ONNX file to an artifact."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurocompile.cli.common import Device, Json, Output, check_output, command
from neurocompile.cli.model_options import Calibration, Model, source_of, with_options
from neurocompile.errors import NeurocompileError
from neurocompile.options import BuildOptions

if TYPE_CHECKING:
    from neurocompile.summary import Summary


@command
@with_options("model", "mapping")
def build(
    model: Model,
    options: BuildOptions,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="OUT.nca", help="By default the model's name + .nca, here."
        ),
    ] = None,
    calibration: Calibration = None,
    estimate_only: Annotated[
        bool,
        typer.Option(
            "--estimate-only",
            help="Say what the model needs at least and what rules it out; write nothing.",
        ),
    ] = False,
    dump: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write text and tensors after each stage there."),
    ] = None,
    stop_after: Annotated[
        str | None,
        typer.Option(
            metavar="STAGE",
            help="import, canonicalize, quantize or lower: print its graph, write no artifact.",
        ),
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(metavar="KEY.pem", help="Sign the artifact with this Ed25519 private key."),
    ] = None,
    device: Device = "cpu",
    images: Annotated[
        bool, typer.Option("--images", help="Put the images of all cores into the artifact.")
    ] = False,
    cache: Annotated[
        bool,
        typer.Option(
            "--cache/--no-cache", help="Take finished stages from the cache, and keep them there."
        ),
    ] = True,
    json_output: Json = False,
) -> Output:
    """Compile a model and write the artifact."""
    if estimate_only:
        if dump is not None or stop_after is not None:
            raise NeurocompileError(
                "NC6002", "--estimate-only writes nothing: leave out --dump and --stop-after"
            )
        return _estimate(model, options, calibration)
    if sign is not None:  # before any work
        from neurocompile.artifact.signature import load_signing_key

        load_signing_key(sign)
    if output is not None:  # before any work
        output = check_output(output, Path(model), calibration)
    source, example, name = source_of(model)
    if stop_after is not None:
        return _stopped(source, example, options, calibration, device, dump, stop_after, cache)
    output = output or check_output(Path(f"{name}.nca"), Path(model), calibration)

    from neurocompile.pipeline import compile_model

    program = compile_model(
        source,
        example,
        calibration=calibration,
        options=options,
        device=device,
        progress=True,
        cache=cache,
        after=None if dump is None else lambda stage: stage.dump(dump),
    )
    if images:
        program = program.with_images()
    program.save(output, signing_key=sign)
    summary = program.summary()
    return Output(_data(summary, output), _text(summary, output))


def _stopped(
    source: Any,
    example: Any,
    options: BuildOptions,
    calibration: Path | None,
    device: str,
    dump: Path | None,
    last: str,
    cache: bool,
) -> Output:
    """The graph of one stage."""
    from neurocompile.stages import STAGES, run_stages

    if last not in STAGES:
        raise NeurocompileError(
            "NC6002", f"--stop-after is '{last}'; {', '.join(STAGES)} are possible"
        )
    for stage in run_stages(
        source, example, calibration, options, device=device, progress=True, cache=cache
    ):
        if dump is not None:
            stage.dump(dump)
        if stage.name == last:
            break
    costs = stage.costs()
    data = {"stage": stage.name, "costs": costs.figures, "graph": stage.text()}
    return Output(data, [stage.text()])


def _estimate(model: str, options: BuildOptions, calibration: Path | None) -> Output:
    from neurocompile.cli.estimate_text import estimate_text
    from neurocompile.pipeline import estimate_model

    source, example, _ = source_of(model)
    found = estimate_model(source, example, calibration=calibration, options=options, progress=True)
    return Output(
        {"fits": found.fits, **_builtins(found)}, estimate_text(found), 0 if found.fits else 2
    )


def _builtins(struct: Any) -> dict[str, Any]:
    import msgspec

    return msgspec.to_builtins(struct)


def _data(summary: Summary, output: Path) -> dict[str, object]:
    found = {
        "output": str(output),
        **_builtins(summary),
        "first_answer_steps": summary.depth + summary.T
        if summary.fold is None
        else summary.fold.latency,
    }
    if summary.budget is not None:
        found["budget"] |= {
            "expected": sum(share.expected for share in summary.budget.layers),
            "exceeding": [
                {**_builtins(share), "excess": share.excess} for share in summary.budget.exceeding
            ],
        }
    return found


def _fold_facts(s: Summary) -> Iterator[tuple[str, str, str]]:
    if s.fold is not None:
        steps = f"{s.fold.steps:,} steps a sample, {s.fold.host_values:,} values from the host"
        yield (
            "fold",
            s.fold.fold,
            f"{s.fold.windows:,} windows of {s.period // s.fold.windows} steps, {steps}",
        )


def _ends(s: Summary) -> Iterator[tuple[str, str, str]]:
    """What comes out, where that is more than the chip's own values."""
    if len(s.outputs) > 1:
        shown = ", ".join(f"{name} {shape}" for name, shape in s.outputs.items())
        yield "outputs", f"{len(s.outputs)}", shown
    if s.host:
        shown = ", ".join(f"{n} {kind}" if n > 1 else kind for kind, n in s.host.items())
        yield (
            "on the host",
            f"{sum(s.host.values())} operators",
            f"behind the last neurons, float32: {shown}",
        )


def _text(s: Summary, output: Path) -> Iterator[Any]:
    from neurocompile.cli.precision_text import precision_text
    from neurocompile.cli.tables import facts
    from neurocompile.mapping.resources import LABELS

    label = LABELS.get(s.cores_at_least_for, s.cores_at_least_for)
    share = f"{s.fullest_used / s.fullest_limit:.0%} full" if s.fullest_limit else ""
    latency = s.depth + s.T if s.fold is None else s.fold.latency
    first = f"first answer after {latency:,} steps, then one every {s.period:,}"
    total = sum(s.seconds.values())
    yield f"{s.model} on {s.target}, T = {s.T}, {s.weight_bits}-bit weights -> {output}\n"
    yield facts(
        [
            ("layers", f"{s.layers:,}", "spiking layers of the model"),
            ("populations", f"{s.populations:,}", "on the chip and the host"),
            ("neurons", f"{s.neurons:,}", ""),
            ("synapses", f"{s.synapses:,}", "unrolled"),
            *_fold_facts(s),
            ("depth", f"{s.depth:,} steps", first),
            (
                "cores",
                f"{s.cores:,} of {s.cores_available:,}",
                f"no mapping can do with fewer than {s.cores_at_least:,} ({label})",
            ),
            (
                f"fullest: {s.fullest_resource or 'none'}",
                f"{s.fullest_used:,} of {s.fullest_limit:,}",
                share,
            ),
            (
                "spikes per inference",
                f"{s.spikes_per_inference:,.0f}",
                f"expected; rates {s.rates_source}",
            ),
            ("packets per step", f"{s.packets_per_step:,.0f}", "expected, between cores"),
            ("import agreement", f"{s.import_agreement:.4%}", "equal spikes, against onnxruntime"),
            *_ends(s),
        ]
    )
    if s.folds:
        from neurocompile.cli.fold_text import fold_table

        yield "\nfolds (unrolled: none), least cores at the steps of a sample"
        yield fold_table(s.folds, s.cores_available, s.fold.fold if s.fold else "none")
    if s.optimized is not None:
        o = s.optimized
        priced = f", by {o.profile}" if o.profile else ""
        yield (
            f"refined on the messages of {o.samples} samples for {o.objective}: {o.before:,.0f} -> {o.after:,.0f} {o.unit}"
            f"{priced} ({o.tried} other mappings counted)"
        )
        if o.held_out:
            yield (
                f"on {o.held_out} held-out samples: {o.held_out_before:,.0f} -> {o.held_out_after:,.0f} {o.unit}"
                f" ({o.held_out_refused} better mappings refused that are worse there)"
            )
    if s.budget is not None:
        from neurocompile.cli.budget_text import budget_text

        windows = s.fold.windows if s.fold else 1
        yield from budget_text(s.budget, s.T * windows, s.cores)
    yield from precision_text(s.precision)
    yield f"\ntime of each stage ({total:.2f} s)"
    yield facts((f"  {name}", f"{seconds:.2f} s", "") for name, seconds in s.seconds.items())
