"""One self-contained HTML page of a program. Deterministic; every name in it may come from a
stranger, so all is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from neurocompile.energy.counts import Counts
from neurocompile.energy.mesh import MeshReport, check_buffer, mesh_beside
from neurocompile.energy.price import ITEMS, complete
from neurocompile.energy.profile import Profile, list_profiles, load_profile, profile_of
from neurocompile.energy.report import EnergyReport, count_program, energy_report
from neurocompile.energy.units import joule
from neurocompile.errors import NeurocompileError
from neurocompile.files import read_input, write_output
from neurocompile.report.page_data import page_data
from neurocompile.report.schedule import schedule_rows, schedule_table
from neurocompile.targets.schema import Energy

if TYPE_CHECKING:
    from neurocompile.parity.report import ParityReport
    from neurocompile.program import Program

__all__ = ["load_parity", "page_of", "render_page", "write_page"]

Facts = Sequence[tuple[str, str, str]]
"""Rows of a small table: name, value, remark."""


def render_page(
    program: Program,
    counts: Counts,
    profiles: Sequence[Profile],
    *,
    parity: ParityReport | None = None,
    mesh: MeshReport | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The page's text.

    Args:
        counts: of :func:`neurocompile.energy.report.count_program`.
        profiles: each gets an energy bar; the first also prices cores.
        mesh: time on the mesh, shown if given.
        notes: shown at the end.
        parity: shown if given. The spike budget is shown if the program was built with one.
    """
    if find_spec("jinja2") is None:
        raise NeurocompileError(
            "NC4001", "the report needs jinja2: pip install 'neurocompile[report]'"
        )
    import jinja2

    report = energy_report(program, counts, profiles, mesh=mesh, notes=notes)
    folder = resources.files("neurocompile.report")
    script = folder.joinpath("page.js").read_text("utf-8")
    data = json.dumps(
        page_data(program, counts, profiles[0] if profiles else None),
        separators=(",", ":"),
        allow_nan=False,
    )
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"joule": joule, "count": _count}
    template = environment.from_string(folder.joinpath("page.html.j2").read_text("utf-8"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return template.render(
        r=report,
        layers=_layers(program, report),
        energies=_bars(report),
        items=ITEMS,
        parity=parity,
        budget=_budget(program, counts),
        facts=_facts(program, report),
        mesh=None if mesh is None else list(mesh.rows()),
        late=report.energies[0].latency if report.energies else None,
        **_schedule(program),
        script=script,
        digest=digest,
        # "<" ends no script element if it is written as an escape of JSON
        data=data.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"),
    )


def page_of(
    program: Program,
    x: np.ndarray | None = None,
    profiles: Sequence[str | Path] = (),
    *,
    parity: ParityReport | str | Path | None = None,
    on_cores: bool = False,
    buffer: int | None = None,
    progress: bool = False,
) -> str:
    """The page's text, counted on ``x`` or modelled from the stored rates.

    Args:
        x: float32 (samples, *input shape).
        profiles: names or files of energy profiles; by default all that are shipped, the target's
            own first where it is complete.
        parity: shown if given: of this program, or the file that ``parity --json`` wrote of it.
        on_cores: count ``x`` on core images, message by message (docs/core_images.md), and play it
            on the mesh under the first profile that has times.
        buffer: messages that each queue of a router holds there; None for any number.

    Raises:
        NeurocompileError: NC1015 for ``on_cores`` without ``x`` or ``buffer`` without ``on_cores``, NC7002 for a profile that prices nothing, NC7005 and NC7008 for a parity
            report of something else.
    """
    check_buffer(buffer, on_cores)
    priced = [load_profile(name) for name in profiles or list_profiles()]
    nothing = next((p.name for p in priced if p.energy == Energy()), None)
    if nothing is not None:
        raise NeurocompileError(
            "NC7002",
            f"energy profile '{nothing}' has no energy constant: it prices nothing that a page could show",
        )
    if isinstance(parity, (str, Path)):
        parity = load_parity(Path(parity), program)
    elif parity is not None:
        _check_parity(parity, program, "the parity report")
    if not profiles and complete(profile_of(program.target)):
        priced.insert(0, profile_of(program.target))
    counts = count_program(program, x, on_cores=on_cores, progress=progress)
    mesh, why = None, None
    if on_cores and x is not None:
        mesh, why = mesh_beside(program, program.checked(x), priced, buffer)
    return render_page(
        program, counts, priced, parity=parity, mesh=mesh, notes=[why] if why else []
    )


def _schedule(program: Program) -> dict[str, Any]:
    """What the picture of a folded program's schedule needs; empty rows for an unrolled one."""
    circuit = program.circuit
    if circuit.windows == 1:
        return {"schedule": []}
    rows, all_rows = schedule_rows(circuit), schedule_table(circuit)[0]
    width = max((start + n for row in rows for start, n, _ in row.runs), default=1.0)
    return {
        "schedule": rows,
        "fold": program.fold,
        "scale": 745 / max(width, circuit.windows),
        "window": circuit.period,
        "populations": len(all_rows),
        "thinned": len(rows) if len(rows) < len(all_rows) else 0,
    }


def write_page(text: str, path: Path) -> None:
    """Whole or not at all; NC5005."""
    write_output(path, text.encode("utf-8", "replace"))


def load_parity(path: Path, program: Program) -> ParityReport:
    """What ``neurocompile parity --json`` wrote of ``program``; NC7005 for anything else, NC7008
    for another program's.
    """
    from neurocompile.parity.report import ParityReport

    try:
        found = msgspec.json.decode(read_input(path, 1 << 24, "NC7005"), type=ParityReport)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise NeurocompileError(
            "NC7005", f"'{path}' is not what 'neurocompile parity' writes as JSON: {error}"
        ) from error
    _check_parity(found, program, f"'{path}'")
    return found


def _check_parity(found: ParityReport, program: Program, what: str) -> None:
    if not found.backends:
        raise NeurocompileError(
            "NC7005",
            f"{what} compares no backend, so it shows nothing; run 'neurocompile parity' again",
        )
    if found.program != program.fingerprint:
        own, theirs = (
            program.fingerprint[:12],
            f"program {found.program[:12]}" if found.program else "no program by its fingerprint",
        )
        raise NeurocompileError(
            "NC7008",
            f"{what} is of model {found.model[:60]!r}, T = {found.T}, and names {theirs}; this artifact is '{program.manifest.model}', "
            f"T = {program.circuit.steps}, program {own}. Run 'neurocompile parity' on this artifact",
        )


def _count(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.0f}"


def _layers(program: Program, report: EnergyReport) -> list[dict[str, Any]]:
    """Layers in depth order, with what they read and where they lie."""
    circuit = program.circuit
    reads: dict[str, dict[str, None]] = {}
    for q in circuit.projections:
        src, dst = circuit.population[q.src].layer, circuit.population[q.dst].layer
        if src != dst:
            reads.setdefault(dst, {})[src] = None
    shape = {view.layer: view.shape for view in circuit.views}
    held: dict[str, set[int]] = {}
    for i, core in enumerate(program.mapping.cores):
        for tile in core.tiles:
            held.setdefault(circuit.population[tile.population].layer, set()).add(i)
    most = max((row["spikes"] for row in report.layers), default=0.0) or 1.0
    return [
        {
            **row,
            "reads": list(reads.get(row["layer"], ())),
            "shape": " x ".join(map(str, shape.get(row["layer"], ()))),
            "cores": len(held.get(row["layer"], ())),
            "share": f"{100 * row['spikes'] / most:.2f}",
        }
        for row in report.layers
    ]


def _bars(report: EnergyReport) -> list[dict[str, Any]]:
    """Width of each part of a profile's bar, in percent of the largest energy on the page."""
    energies = [(e.dynamic_pj or 0.0) + (e.static_pj or 0.0) for e in report.energies]
    most = max([*energies, report.ann_pj, 1e-30])
    return [
        {
            "e": e,
            "parts": [
                (i, name, e.items[name], f"{100 * (e.items[name] or 0.0) / most:.3f}")
                for i, name in enumerate(ITEMS)
            ],
            "static": f"{100 * (e.static_pj or 0.0) / most:.3f}",
            "bound": None if e.bound_pj is None else f"{100 * e.bound_pj / most:.3f}",
        }
        for e in report.energies
    ] + [{"ann": True, "width": f"{100 * report.ann_pj / most:.3f}"}]


def _budget(program: Program, counts: Counts) -> Facts | None:
    """The spike budget that the program was built with: all of it, the three layers that exceed
    their share most, a core.
    """
    budget = program.manifest.budget
    if budget is None:
        return None
    expected, worst = sum(share.expected for share in budget.layers), budget.exceeding
    steps = program.circuit.sample_steps
    sent = (counts.total("spikes") + counts.total("graded_messages")) / max(
        steps * program.mapping.cores_used, 1
    )
    return [
        (
            "budget",
            f"{budget.total:,.0f}",
            f"bound; spikes per inference ({budget.text}): {budget.basis}",
        ),
        (
            "expected",
            f"{expected:,.0f}",
            f"modelled; {expected / budget.total:.3g} times the budget"
            if budget.total
            else "modelled",
        ),
        (
            "per core and step",
            f"{budget.per_core_step:,.1f}",
            f"messages of the budget; {sent:,.1f} are sent on average. A core keeps each layer's share",
        ),
        ("layers above their share", f"{len(worst)} of {len(budget.layers)}", "modelled"),
        *(
            (share.layer, f"{share.expected:,.0f}", f"of {share.spikes:,.0f} spikes")
            for share in worst[:3]
        ),
        (
            "cores that it moved",
            f"{len(budget.moved):,}",
            f"{budget.cores_without:,} cores were taken without it",
        ),
    ]


def _facts(program: Program, report: EnergyReport) -> Facts:
    summary = program.summary()
    told = {"measured": "measured on the emulator", "counted": "counted on core images"}
    basis = told.get(report.basis, report.basis)
    return [
        ("neurons", f"{summary.neurons:,}", "on cores"),
        ("synapses", f"{summary.synapses:,}", "unrolled"),
        ("cores", f"{summary.cores:,} of {summary.cores_available:,}", "modelled"),
        ("chips", f"{report.chips:,}", "modelled"),
        ("spikes", f"{report.counts['spikes']:,.0f}", basis),
        ("synaptic operations", f"{report.counts['acs'] + report.counts['macs']:,.0f}", basis),
        ("packets between cores", f"{report.counts['packets']:,.0f}", basis),
        ("firing rate", f"{report.firing_rate:.4f}", basis),
    ]
