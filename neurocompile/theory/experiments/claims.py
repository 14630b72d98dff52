"""Tables without an experiment of ours: Table V's energies, and the statements with their status."""

from __future__ import annotations

from dataclasses import asdict

from neurocompile.theory.bounds.statements import PAPER, STATEMENTS
from neurocompile.theory.experiments.paper import TABLE5
from neurocompile.theory.experiments.result import Result, Table

__all__ = ["statements", "table5"]


def table5() -> Result:
    """The paper's energies, as its claim."""
    base = TABLE5[0][2]
    table = Table(
        "the paper's claim, NOT measured by neurocompile",
        ("model", ">accuracy, %", ">energy, mJ", ">ratio"),
        tuple(
            (name, accuracy, energy, f"{base / energy:.0f}") for name, accuracy, energy in TABLE5
        ),
    )
    notes = (
        "17.6 is ViT-B/16's number of GFLOPs, not its energy in mJ; the others are 20 to 300 times below what the models' own "
        "papers publish. So '38 to 57 times' is a claim, never a result of ours.",
        "What a program costs: neurocompile budget MODEL (Corollary 9's bound beside synaptic operations).",
    )
    data = {
        "kind": "claim",
        "rows": [{"model": m, "accuracy": a, "energy_mJ": e} for m, a, e in TABLE5],
    }
    return Result("table5", PAPER, (table,), notes, data)


def statements() -> Result:
    """Every statement with its status."""
    table = Table(
        "stated: in the text. reconstructed: lost, rebuilt from the proof. fitted: a measured constant. unknown: not recoverable",
        ("statement", "status", "formula", "what we found"),
        tuple((s.name, s.status.value, s.formula or s.says, s.found) for s in STATEMENTS),
    )
    return Result(
        "statements", PAPER, (table,), (), {"statements": [asdict(s) for s in STATEMENTS]}
    )
