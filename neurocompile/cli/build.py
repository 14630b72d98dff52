"""``neurocompile build``: an ONNX file to an artifact."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurocompile.cli.common import Json, Output, check_output, command
from neurocompile.errors import NeurocompileError

if TYPE_CHECKING:
    from neurocompile.summary import Summary


@command
def build(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="An ONNX file, or package.module:function that returns (module, example input).",
            show_default=False,
        ),
    ],
    target: Annotated[
        str, typer.Option(help="A name that 'targets' lists, or a YAML file.")
    ] = "loihi2",
    steps: Annotated[
        int, typer.Option("--T", metavar="N", help="Simulation steps of one sample.")
    ] = 4,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="OUT.nca", help="By default the model's name + .nca, here."
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="X.npz", help="Samples to quantize with and to measure spike rates on."
        ),
    ] = None,
    weight_bits: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="2 to 8, sign included; by default 8, or the target's if it has fewer.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of placement and of the recorded proof.")] = 0,
    max_cores: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Use at most so many cores.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="epsilon=E|spikes=N",
            help="Spikes that the theory grants: one more capacity of a core.",
        ),
    ] = None,
    per_sample_lif: Annotated[
        bool,
        typer.Option(
            "--per-sample-lif", help="Run a LIF over time and batch for each sample alone."
        ),
    ] = False,
    convolutions: Annotated[
        str,
        typer.Option(
            metavar="auto|merge|factor",
            help="Of convolutions without a neuron between them (RepConv).",
        ),
    ] = "auto",
    head: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of several outputs: a name, or a number from 0."),
    ] = None,
    estimate_only: Annotated[
        bool,
        typer.Option(
            "--estimate-only",
            help="Say what the model needs at least and what rules it out; write nothing.",
        ),
    ] = False,
    json_output: Json = False,
) -> Output:
    """Compile a model and write the artifact."""
    from neurocompile.frontends.torch.module import is_factory, load_factory

    source, example = Path(model), None
    choice = int(head) if head is not None and head.isdecimal() else head
    if estimate_only:
        if budget is not None:
            raise NeurocompileError(
                "NC3112",
                "--estimate-only knows no --budget, which needs a mapping; leave one of them out",
            )
        if is_factory(model) and not source.exists():
            source, example = load_factory(model)
        from neurocompile.cli.estimate_text import estimate_text
        from neurocompile.pipeline import estimate_model

        found = estimate_model(
            source,
            example,
            target=target,
            T=steps,
            calibration=calibration,
            weight_bits=weight_bits,
            max_cores=max_cores,
            per_sample_lif=per_sample_lif,
            head=choice,
            convolutions=convolutions,
            progress=True,
        )
        return Output(
            {"fits": found.fits, **_builtins(found)}, estimate_text(found), 0 if found.fits else 2
        )
    default = Path(f"{source.stem}.nca")
    if is_factory(model) and not source.exists():
        default = Path(f"{model.partition(':')[2]}.nca")
        output = check_output(output or default, calibration)
        source, example = load_factory(model)
    else:
        output = check_output(output or default, source, calibration)

    from neurocompile.pipeline import compile_model

    program = compile_model(
        source,
        example,
        target=target,
        T=steps,
        calibration=calibration,
        weight_bits=weight_bits,
        seed=seed,
        max_cores=max_cores,
        budget=budget,
        per_sample_lif=per_sample_lif,
        head=choice,
        convolutions=convolutions,
        progress=True,
    )
    program.save(output)
    summary = program.summary()
    return Output(_data(summary, output), _text(summary, output))


def _builtins(struct: Any) -> dict[str, Any]:
    import msgspec

    return msgspec.to_builtins(struct)


def _data(summary: Summary, output: Path) -> dict[str, object]:
    found = {
        "output": str(output),
        **_builtins(summary),
        "first_answer_steps": summary.depth + summary.T,
    }
    if summary.budget is not None:
        found["budget"] |= {
            "expected": sum(share.expected for share in summary.budget.layers),
            "exceeding": [
                {**_builtins(share), "excess": share.excess} for share in summary.budget.exceeding
            ],
        }
    return found


def _text(s: Summary, output: Path) -> Iterator[Any]:
    from neurocompile.cli.tables import facts
    from neurocompile.mapping.resources import LABELS

    label = LABELS.get(s.cores_at_least_for, s.cores_at_least_for)
    share = f"{s.fullest_used / s.fullest_limit:.0%} full" if s.fullest_limit else ""
    first = f"first answer after {s.depth + s.T:,} steps, then one every {s.period:,}"
    total = sum(s.seconds.values())
    yield f"{s.model} on {s.target}, T = {s.T}, {s.weight_bits}-bit weights -> {output}\n"
    yield facts(
        [
            ("layers", f"{s.layers:,}", "spiking layers of the model"),
            ("populations", f"{s.populations:,}", "on the chip and the host"),
            ("neurons", f"{s.neurons:,}", ""),
            ("synapses", f"{s.synapses:,}", "unrolled"),
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
        ]
    )
    if s.budget is not None:
        from neurocompile.cli.budget_text import budget_text

        yield from budget_text(s.budget, s.T, s.cores)
    yield f"\ntime of each stage ({total:.2f} s)"
    yield facts((f"  {name}", f"{seconds:.2f} s", "") for name, seconds in s.seconds.items())
