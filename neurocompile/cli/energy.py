"""``neurocompile energy``: counts, energy and time of a program."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurocompile.cli.common import Artifact, Buffer, Json, Output, Samples, command, say
from neurocompile.energy.units import joule
from neurocompile.errors import NeurocompileError

if TYPE_CHECKING:
    from neurocompile.energy.beside import Beside
    from neurocompile.energy.profile import Profile
    from neurocompile.energy.report import EnergyOf, EnergyReport
    from neurocompile.targets import Target


@command
def energy(
    artifact: Artifact,
    samples_file: Annotated[
        Path | None,
        typer.Option(
            "--input",
            metavar="X.npz",
            help="Measure on these samples; otherwise modelled from stored rates.",
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE|target",
            help="davies2018, sanafe-loihi, keras-spiking, horowitz45, a YAML file, or target: the target file's own constants. "
            "By default those, if they are complete, else davies2018.",
            show_default=False,
        ),
    ] = None,
    measured: Annotated[
        str | None,
        typer.Option(
            metavar="power.json|loihi",
            help="Power measured on hardware, for a column of its own; loihi: by Lava's probes, now.",
        ),
    ] = None,
    timings: Annotated[
        Path | None,
        typer.Option(metavar="T.json", help="Measured step times: fit a max-affine model to them."),
    ] = None,
    on_cores: Annotated[
        bool,
        typer.Option("--on-cores", help="Count on core images, message by message (with --input)."),
    ] = False,
    buffer: Buffer = None,
    samples: Samples = None,
    json_output: Json = False,
) -> Output:
    """Count spikes, operations, packets and hops; price them."""
    from neurocompile.artifact.store import load_program
    from neurocompile.data import load_samples
    from neurocompile.energy.max_affine import fit_max_affine, load_timings
    from neurocompile.energy.mesh import check_buffer, mesh_beside
    from neurocompile.energy.power import load_power, measure_power
    from neurocompile.energy.profile import load_profile
    from neurocompile.energy.report import count_program, energy_report

    check_buffer(buffer, on_cores)
    chosen = None if profile in (None, "target") else load_profile(profile)
    on_loihi = measured == "loihi"
    power = None if measured is None or on_loihi else load_power(Path(measured))
    fitted = None if timings is None else fit_max_affine(load_timings(timings))
    program = load_program(artifact)
    chosen = chosen or _chosen(program.target, own=profile == "target")
    x = (
        None
        if samples_file is None
        else load_samples(samples_file, program.input_shape, samples, program.frames).x
    )
    if x is None and samples is not None:
        raise NeurocompileError("NC1015", "--samples is given without --input")
    if x is None and on_cores:
        raise NeurocompileError("NC1015", "--on-cores is given without --input")
    if on_loihi:
        if x is None:
            raise NeurocompileError(
                "NC1015", "--measured loihi runs samples on the chip: give --input"
            )
        power = measure_power(program, x)
    counts = count_program(program, x, on_cores=on_cores, progress=True)
    mesh, why = None, None
    if on_cores and x is not None:
        mesh, why = mesh_beside(program, x, [chosen], buffer)
    report = energy_report(
        program,
        counts,
        [chosen],
        measured=power,
        fitted=fitted,
        mesh=mesh,
        notes=[why] if why else [],
    )
    if report.energies[0].foreign:
        say("note", foreign_note(report, report.energies[0]))
    return Output(report, _text(report))


def _chosen(target: Target, *, own: bool) -> Profile:
    """The target's constants where they are ``own``, asked for, or complete; davies2018 otherwise."""
    from neurocompile.energy.price import complete, priced
    from neurocompile.energy.profile import load_profile, profile_of

    found = profile_of(target)
    if own or complete(found):
        return found
    if priced(found):
        say(
            "note",
            f"{target.name}'s own energy constants do not price everything (--profile target prices what they do)",
        )
    return load_profile("davies2018")


def foreign_note(report: EnergyReport, found: EnergyOf) -> str:
    """Why the figures are not the target's."""
    loihi2 = report.target in ("loihi2", "kapoho_point", "hala_point")
    extra = " (nobody has published those of Loihi 2)" if loihi2 else ""
    return (
        f"{found.profile} has the constants of {found.hardware}, not of {report.target}{extra}: it prices the same "
        "work as if done there"
    )


def _text(r: EnergyReport) -> Iterator[Any]:
    from neurocompile.cli.tables import facts, table

    found = r.energies[0]
    yield f"{r.model} on {r.target}, T = {r.T}: one inference, {r.banner}"
    yield f"counts {'' if r.basis == 'counted' else r.basis + ': '}{r.source}\n"
    rows = []
    for row in r.layers:
        rate = "" if row["rate"] is None else f"{row['rate']:.4f}"
        hops = row["hops_east_west"] + row["hops_north_south"]
        rows.append(
            (
                row["layer"],
                rate,
                *(
                    f"{row[k]:,.0f}"
                    for k in (
                        "spikes",
                        "graded_messages",
                        "acs",
                        "macs",
                        "active",
                        "inactive",
                        "packets",
                    )
                ),
                f"{hops:,.0f}",
                joule(found.layers[row["layer"]]),
            )
        )
    c = r.counts
    hops = c["hops_east_west"] + c["hops_north_south"]
    rows.append(
        (
            "all",
            f"{r.firing_rate:.4f}",
            *(
                f"{c[k]:,.0f}"
                for k in (
                    "spikes",
                    "graded_messages",
                    "acs",
                    "macs",
                    "active",
                    "inactive",
                    "packets",
                )
            ),
            f"{hops:,.0f}",
            joule(found.dynamic_pj),
        )
    )
    yield table(
        (
            "layer",
            ">rate",
            ">spikes",
            ">graded",
            ">ACs",
            ">MACs",
            ">active",
            ">inactive",
            ">packets",
            ">hops",
            f">{found.profile}",
        ),
        rows,
    )
    yield "\nenergy of one inference\n"
    power = r.measured
    rows = [
        (f"dynamic: {name}", "not priced" if pj is None else joule(pj), "modelled", "")
        for name, pj in found.items.items()
    ]
    rows += [
        (
            "dynamic: barriers",
            "not priced" if found.barriers_pj is None else joule(found.barriers_pj),
            "modelled",
            "",
        ),
        ("dynamic", joule(found.dynamic_pj), "modelled", joule(power.dynamic_pj) if power else ""),
        ("static", joule(found.static_pj), "modelled", joule(power.static_pj) if power else ""),
        *(
            (
                f"Corollary 9: E_s N, N = {r.corollary_spikes[name]:,.0f} spikes of {name}",
                joule(pj),
                "bound",
                "",
            )
            for name, pj in found.bounds_pj.items()
        ),
        (
            "dynamic / Corollary 9 (all LIFs)",
            f"{found.ratio_to_bound:,.0f}" if found.ratio_to_bound else "unknown",
            "modelled / bound",
            "",
        ),
        ("the same network as an ANN", joule(r.ann_pj), "modelled", ""),
    ]
    yield table(("", f">{found.profile}", "basis", ">measured on hardware" if power else ">"), rows)
    if power:
        yield f"measured on {power.device}: {power.source}"
    yield f"ANN: {r.ann_macs:,} MACs at 4.6 pJ (horowitz45)"
    yield f"constants: {found.description}: {'; '.join(found.sources) or 'none'}"
    yield f"static: {found.static_time}"
    if found.dynamic_pj is None:
        yield f"{found.profile} has no energy constant: it prices nothing, and no energy can be told"
    if found.not_priced:
        yield f"Not priced: {', '.join(f'{n:,.0f} {name}' for name, n in found.not_priced.items())}"
    yield "\ntime (modelled)\n"
    yield facts(_time(r, found))
    yield "\nNeuroBench\n"
    n = r.neurobench
    yield facts(
        [
            ("Footprint", f"{n['Footprint']:,} bytes", "weights"),
            ("ConnectionSparsity", f"{n['ConnectionSparsity']:.4f}", ""),
            ("ActivationSparsity", f"{n['ActivationSparsity']:.4f}", ""),
            *((name, f"{v:,.0f}", "an inference") for name, v in n["SynapticOperations"].items()),
        ]
    )
    if r.beside is not None:
        yield "\nfolded and unrolled (modelled, without packets, hops and static power)\n"
        yield _beside(r.beside)
    for note in r.notes:
        yield f"note: {note}"


def _beside(b: Beside) -> Any:
    """A sample folded and unrolled: its counts, then each profile's energy, then its time."""
    from neurocompile.cli.tables import table

    def times(folded: float, unrolled: float) -> str:
        return f"{folded / unrolled:,.2f}" if unrolled else ""

    rows = []
    for label, name in (
        ("cores, at least", "cores_at_least"),
        ("steps a sample", "steps"),
        ("latency, steps", "latency"),
        ("values from the host", "host_values"),
        ("of them clocks", "host_clocks"),
        ("messages", "messages"),
        ("packets", "packets"),
        ("synaptic operations", "operations"),
    ):
        one, other = getattr(b.folded, name), getattr(b.unrolled, name)
        rows.append((label, f"{one:,.0f}", f"{other:,.0f}", times(one, other)))
    for cost in b.costs:
        if cost.folded_pj is not None and cost.unrolled_pj is not None:
            one, other = cost.folded_pj, cost.unrolled_pj
            more = times(one, other) + (" (costs more)" if one > other else "")
            rows.append((f"energy, {cost.profile}", joule(one), joule(other), more))
            if cost.folded_idle_pj is not None and cost.unrolled_idle_pj is not None:
                one, other = cost.folded_idle_pj, cost.unrolled_idle_pj
                rows.append(("  of it idle neurons", joule(one), joule(other), times(one, other)))
    for cost in b.costs:
        if cost.folded_us is not None and cost.unrolled_us is not None:
            one, other = cost.folded_us, cost.unrolled_us
            label = f"time at least, {cost.profile}"
            rows.append((label, f"{one:,.1f} us", f"{other:,.1f} us", times(one, other)))
            if cost.folded_idle_us is not None and cost.unrolled_idle_us is not None:
                one, other = cost.folded_idle_us, cost.unrolled_idle_us
                label = "  of it idle neurons and steps"
                rows.append((label, f"{one:,.1f} us", f"{other:,.1f} us", times(one, other)))
    return table(("a sample", f">folded {b.folded.fold}", ">unrolled", ">times"), rows)


def _time(r: EnergyReport, found: EnergyOf) -> Iterator[tuple[str, str, str]]:
    late = found.latency
    yield "first answer", f"{late.steps_first_answer:,} steps", "depth + T"
    yield "then every", f"{late.period:,} steps", "pipelined"
    yield "busiest core", f"{late.busiest_core}", f"of {len(r.cores):,}"
    yield "most operations a step", f"{late.core_operations:,.0f}", "on one core"
    yield "most packets a step", f"{late.link_packets:,.0f}", "over one link"
    if late.step_ns is not None:
        barrier = (
            f"core {late.core_ns:,.0f}, link {late.link_ns:,.0f}, barrier {late.barrier_ns:,.0f} ns"
        )
        yield "time a step", f"{late.step_ns / 1e3:,.2f} us", barrier
        yield "first answer after", f"{late.first_answer_us:,.1f} us", ""
        yield "throughput", f"{late.samples_per_second:,.0f} samples/s", "pipelined"
    yield "times from", "", late.model
    if r.mesh is not None:
        for name, value, remark in r.mesh.rows():
            yield f"on the mesh: {name}", value, remark
    if r.fitted is not None and r.fitted_times is not None:
        fit = f"max-affine, {r.fitted.measurements} measurements, relative rms {r.fitted.relative_rms:.1%}"
        if r.fitted.undetermined:
            yield (
                "fitted: not determined",
                "",
                f"{', '.join(r.fitted.undetermined)}: never the slowest part, taken as 0",
            )
        yield "fitted: time a step", f"{r.fitted_times['step_ns'] / 1e3:,.2f} us", fit
        yield "fitted: first answer", f"{r.fitted_times['first_answer_us']:,.1f} us", ""
        yield "fitted: throughput", f"{r.fitted_times['samples_per_second']:,.0f} samples/s", ""
