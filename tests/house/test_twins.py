"""Everything that the command line does is a function or method of the same names and defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import typer

import neurocompile
from neurocompile.cli import app
from neurocompile.program import Program

TWINS: dict[str, str] = {
    "budget": "budget",
    "build": "compile",
    "cache": "list_cache",
    "check": "check",
    "deff": "deff",
    "doctor": "diagnose",
    "energy": "Program.energy",
    "explain": "explain",
    "fetch": "fetch",
    "export": "Program.save_images",
    "finetune": "finetune",
    "frames": "frames_from_events",
    "gate": "gate",
    "generate": "Program.generate",
    "opt": "open",
    "parity": "Program.parity",
    "plot": "Program.plot",
    "report": "Program.report",
    "run": "Program.run",
    "submit": "submit",
    "sweep": "sweep",
    "targets": "list_targets",
    "verify": "verify",
    "zoo": "list_models",
}
NAMES = {
    "samples_file": "x",
    "text": "x",
    "profile": "profiles",
    "lr": "learning_rate",
    "steps": "T",
}
"""Parameters that commands and functions call by other names: a file's samples are an array, and a
repeated option is a sequence.
"""
SHELL = {"json_output", "force", "log", "help", "artifact", "output", "samples"}
"""Of a shell alone: files that are opened and written, and the first samples of one."""
ELSEWHERE = {
    ("build", "estimate_only"): "neurocompile.estimate",
    ("build", "dump"): "neurocompile.open(...).dump",
    ("build", "stop_after"): "neurocompile.open(...).canonical() and so on",
    ("build", "sign"): "Program.save(signing_key=)",
    ("build", "images"): "Program.with_images",
    ("cache", "wish"): "neurocompile.clear_cache, stage_cache.cache_folder",
    ("deff", "dataset"): "prints the paper's number",
    ("deff", "picture"): "theory.measure.spectrum_plot",
    ("energy", "measured"): "energy.report.energy_report(measured=)",
    ("energy", "timings"): "energy.report.energy_report(fitted=)",
    ("export", "form"): "one method a form",
    ("export", "input_file"): "Program.export_sanafe(x=)",
    ("export", "sample"): "Program.export_sanafe(x=)",
    ("export", "profile"): "Program.export_sanafe(profile=)",
    ("finetune", "test"): "Finetuned.model and qat.outcome.gain_of",
    ("frames", "recordings"): "neurocompile.load_events",
    ("frames", "labels"): "kept beside the frames",
    ("opt", "graph"): "its argument is a graph's text",
    ("opt", "passes"): "the stages' methods",
    ("opt", "print_after_all"): "text() of each stage",
    ("opt", "dump"): "dump() of each stage",
    ("submit", "dry_run"): "submission.sending.script_of",
    ("submit", "wait"): "Ticket.wait",
    ("sweep", "plot"): "sweeping.pareto.draw",
    ("targets", "show"): "neurocompile.load_target",
    ("targets", "schema"): "prints the fields of a file",
    ("zoo", "question"): "find_model(...).path, .card",
    ("zoo", "name"): "neurocompile.find_model",
}
"""Options whose work another name does in Python."""
WITHOUT_TWIN = {"reproduce"}
"""May only shrink."""


def commands() -> dict[str, Any]:
    return typer.main.get_command(app).commands  # type: ignore[attr-defined]


def twin(name: str) -> Callable[..., Any]:
    owner, _, method = TWINS[name].rpartition(".")
    return getattr(Program if owner else neurocompile, method)


def test_every_command_has_a_twin() -> None:
    assert set(commands()) == set(TWINS) | WITHOUT_TWIN
    listed = {name for name in TWINS.values() if "." not in name}
    assert listed <= set(neurocompile.__all__)


@pytest.mark.parametrize("name", sorted(TWINS))
def test_options_have_the_names_and_defaults_of_the_twin(name: str) -> None:
    if name == "finetune":
        pytest.importorskip("torch")
    known = inspect.signature(twin(name)).parameters
    for option in commands()[name].params:
        called = NAMES.get(option.name, option.name)
        if option.name in SHELL or (name, option.name) in ELSEWHERE:
            assert called not in known or option.name in SHELL
            continue
        assert called in known, f"{name}: {TWINS[name]} has no {called}"
        default, own = option.default, known[called].default
        if own is inspect.Parameter.empty or option.required or default is None:
            continue  # asked for, or decided by the function
        if isinstance(own, tuple):
            own = ",".join(own)
        assert str(getattr(default, "value", default)) == str(own), f"{name} --{option.name}"
