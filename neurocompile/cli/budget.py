"""``neurocompile budget``: what the theory says of a model, beside what the emulator measures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurocompile.cli.common import Device, Json, Output, Samples, command
from neurocompile.cli.model_options import Calibration, source_of, with_options
from neurocompile.options import BuildOptions

if TYPE_CHECKING:
    from neurocompile.theory.measure.examine import Examination

_KINDS = {"measured": "measured on the emulator", "modelled": "modelled"}
"""What a number found is, in words."""


@command
@with_options("model")
def budget(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|OUT.nca",
            help="An ONNX file, package.module:function that returns (module, example input), or a compiled program.",
            show_default=False,
        ),
    ],
    options: BuildOptions,
    epsilon: Annotated[
        float | None,
        typer.Option(
            metavar="E", help="Error of the logits (Euclidean); by default the one measured at T."
        ),
    ] = None,
    accuracy: Annotated[
        float | None,
        typer.Option(
            metavar="A", help="The error that certainly keeps it; needs labels 'y' in --data."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA.npz", help="Samples to measure on; without, pseudo-random inputs."
        ),
    ] = None,
    samples: Samples = None,
    calibration: Calibration = None,
    constant: Annotated[
        float, typer.Option(metavar="C", help="Theorem 8's c, which the paper does not give.")
    ] = 1.0,
    radius: Annotated[
        float,
        typer.Option(metavar="R", help="Disturbance for the local L, as a share of a sample."),
    ] = 0.1,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Fit c on the sweep of T, with a bootstrap interval."),
    ] = False,
    device: Device = "cpu",
    json_output: Json = False,
) -> Output:
    """Spikes, steps and energy by the theory, each beside its measured value.

    Total spike bound (Theorems 8 and 10) and its division over layers, steps by every rule, energy
    by Corollary 9, and the emulator's numbers with the ratio. docs/theory.md says which statements
    hold.
    """
    from neurocompile.theory.measure.model_budget import budget as examined

    source, example, _ = source_of(model)
    found = examined(
        source,
        example,
        data=data,
        samples=samples,
        epsilon=epsilon,
        accuracy=accuracy,
        calibration=calibration,
        constant=constant,
        radius=radius,
        calibrate=calibrate,
        device=device,
        progress=True,
        options=options,
    )
    return Output(_data(found), _text(found))


def _data(e: Examination) -> dict[str, Any]:
    from dataclasses import asdict
    from math import isfinite

    from neurocompile.theory.bounds.statements import STATEMENTS
    from neurocompile.theory.measure.sweep import reference_steps

    status = {s.name: s.status.value for s in STATEMENTS}
    return {
        "model": e.model,
        "T": e.T,
        "samples": e.samples,
        "origin": e.origin,
        "epsilon": e.eps,
        "epsilon_basis": e.eps_basis,
        "n": e.tokens,
        "d": e.channels,
        "effective_dimension": None
        if e.dimension is None
        else {
            "mean": e.dimension.mean,
            "std": e.dimension.std,
            "width": e.dimension.width,
            "quantile": e.dimension.quantile,
            "samples": e.dimension.samples,
            "method": e.dimension.method,
            "kind": "measured",
        },
        "lipschitz": {
            "bound": None if e.bound is None else e.bound.value,
            "bound_missing": e.bound_missing,
            "bound_status": "unknown"
            if e.bound is None
            else "bound"
            if isfinite(e.bound.value)
            else "infinite",
            "steps": [] if e.bound is None else list(e.bound.unbounded),
            "local_status": "measured",
            "local_largest": e.local.largest,
            "local_mean_square": e.local.mean_square,
            "local_radius": e.local.radius,
            "local_pairs": e.local.pairs,
            "layers": [asdict(k) for k in e.gains],
        },
        "beside": [
            {
                **asdict(b),
                "ratio": b.ratio,
                "ratio_of": f"{b.measured_kind.value} / bound",
                "status": status.get(b.statement, "ours"),
                "measured_on": "emulator",
            }
            for b in e.beside
        ],
        "paper_ratios": {"low": 2.1, "high": 2.8, "kind": "claim"},
        "layers": [
            {
                "layer": k.layer,
                "n": k.n,
                "d": k.d,
                "sensitivity": k.sensitivity,
                "share": k.share,
                "budget": k.spikes,
                "measured": k.expected,
                "measured_on": "emulator",
                "excess": k.excess,
                "measured_over_budget": k.expected / k.spikes if k.spikes > 0 else None,
            }
            for k in e.layers
        ],
        "theorem7_demand": e.demand,
        "timesteps": [asdict(s) for s in e.steps],
        "sweep": [asdict(p) for p in e.sweep],
        "sweep_reference_T": reference_steps([p.T for p in e.sweep]) if e.sweep else None,
        "measured_on": "emulator (NOT hardware)",
        "complexity": asdict(e.complexity),
        "fit": None if e.fit is None else {**asdict(e.fit), "status": "fitted"},
        "left_out": list(e.left_out),
    }


def _text(e: Examination) -> Iterator[Any]:
    from neurocompile.cli.tables import facts, table
    from neurocompile.theory.bounds.statements import PATTERNS, statement
    from neurocompile.theory.measure.sweep import reference_steps

    yield f"{e.model}, T = {e.T}, on {e.origin}; the emulator, NOT hardware\n"
    dimension = (
        "not measured"
        if e.dimension is None
        else f"{e.dimension.mean:.1f} +- {e.dimension.std:.1f}"
    )
    bound = "unknown" if e.bound is None else f"{e.bound.value:.4g}"
    steps = (
        f"; the rate of {', '.join(e.bound.unbounded)} is a step"
        if e.bound is not None and e.bound.unbounded
        else ""
    )
    yield facts(
        [
            ("error epsilon", f"{e.eps:.4g}", e.eps_basis),
            ("input n x d", f"{e.tokens:,} x {e.channels:,}", "tokens x numbers"),
            (
                "effective dimension",
                dimension,
                "measured on the data (Definition 3, 95 % of the variance)"
                if e.dimension
                else "needs --data",
            ),
            (
                "L_f, upper bound",
                bound,
                (e.bound_missing or "of the ramp network: layers' spectral norms, composed")
                + steps,
            ),
            (
                "L_f, local value",
                f"{e.local.largest:.4g}",
                f"measured on the emulator: largest of {e.local.pairs:,} disturbances of {e.local.radius:.0%}; rms {e.local.mean_square:.4g}",
            ),
        ]
    )
    yield (
        "\nbounds beside what the emulator gives (found / bound: how often the bound fits in; the paper claims 2.1 to 2.8 for measured "
        "spikes)\n"
    )
    yield table(
        ("statement", "status", ">bound", ">found", ">found / bound", "bound of", "found is"),
        [
            (
                b.statement,
                "ours" if b.statement == PATTERNS else statement(b.statement).status.value,
                _number(b.theory, b.unit),
                _number(b.measured, b.unit),
                f"{b.ratio:.3g}",
                b.what,
                f"{_KINDS[b.measured_kind.value]}: {b.remark}",
            )
            for b in e.beside
        ],
    )
    yield f"\nthe budget over {len(e.layers)} layers, by D^2 n d; D and spikes measured on the emulator at T = {e.T}\n"
    yield table(
        ("layer", ">n", ">d", ">D", ">share", ">budget", ">measured", ">measured / budget"),
        [
            (
                k.layer,
                f"{k.n:,}",
                f"{k.d:,}",
                f"{k.sensitivity:.3g}",
                f"{k.share:.2%}",
                f"{k.spikes:,.1f}",
                f"{k.expected:,.1f}",
                f"{k.expected / k.spikes:.3g}" if k.spikes > 0 else "inf",
            )
            for k in e.layers
        ],
    )
    yield f"Theorem 7's division (eps/{len(e.layers)} a layer) would ask for {e.demand:,.0f} spikes in all: it grows as depth^3"
    yield "\nsteps, by every rule\n"
    yield table(
        ("rule", ">T", "interval", "kind", "status", "basis", "remark"),
        [
            (
                s.rule,
                "" if s.T is None else _number(s.T, ""),
                "" if s.interval is None else f"{s.interval[0]}..{s.interval[1]}",
                s.kind.value,
                "" if s.status is None else s.status.value,
                s.basis,
                s.remark,
            )
            for s in e.steps
        ],
    )
    if e.sweep:
        far = reference_steps([p.T for p in e.sweep])
        yield f"\nthe sweep (measured on the emulator; error: of the logits against those at T = {far}, rms over samples)\n"
        yield table(
            (">T", ">error", ">spikes", ">accuracy"),
            [
                (
                    p.T,
                    f"{p.eps:.4g}",
                    f"{p.spikes:,.0f}",
                    "" if p.accuracy is None else f"{p.accuracy:.2%}",
                )
                for p in e.sweep
            ],
        )
    if e.left_out:
        yield ""
    for what in e.left_out:
        yield f"left out: {what}"
    k = e.complexity
    yield (
        f"\nthreshold circuit (Theorem 11, counted): depth {k.depth:,} and {k.gates:,} gates for {k.neurons:,} neurons; unrolled "
        f"in time depth {k.unrolled_depth:,}, {k.unrolled_gates:,} gates"
    )
    if e.fit is not None:
        f = e.fit
        yield (
            f"\nfitted c = {f.constant:.4g}, 95 % interval [{f.low:.4g}, {f.high:.4g}] ({f.resamples:,} bootstrap resamples of "
            f"{f.points} points)\nPearson r = {f.r:.4f}, R^2 = {f.r_squared:.4f}; spikes go as epsilon^{f.exponent:.2f} "
            f"[{f.exponent_low:.2f}, {f.exponent_high:.2f}], the theory says epsilon^-2"
        )


def _number(value: float, unit: str) -> str:
    if isinstance(value, int) and value < 100:
        return str(value)
    if unit == "J":
        return f"{value * 1e9:,.4g} nJ"
    return f"{value:,.0f}" if 100 <= value < 1e12 else f"{value:.4g}"
