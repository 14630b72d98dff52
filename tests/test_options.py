"""One value of options, and one door for models: every command takes and keeps the same."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from importlib.metadata import EntryPoint
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from neurocompile.check import check_model
from neurocompile.errors import NeurocompileError
from neurocompile.frontends import door
from neurocompile.frontends.door import open_model
from neurocompile.options import BuildOptions, GivenOptions
from neurocompile.passes.canonicalize import canonicalize
from neurocompile.pipeline import compile_model, estimate_model, folds
from neurocompile.stages import open_staged
from neurocompile.theory.measure.subject import open_subject

VALUES = {
    "target": "kapoho_point",
    "T": 3,
    "weight_bits": 5,
    "rounding": "compensated",
    "digits": 8,
    "grids": 16,
    "seed": 7,
    "max_cores": 60,
    "fold": "1x32",
    "max_steps": 1000,
    "budget": "spikes=4000",
    "discretize": "snntorch,dt=1e-3",
    "optimize": "packets",
    "per_sample_lif": True,
    "head": "logits",
    "convolutions": "factor",
}
WRONG = [None, "", "nonsense", b"x", 1.5, float("nan"), -1, 1 << 70, [], {}, object(), np.zeros(3)]


@pytest.fixture
def two_heads(digits_model, tmp_path: Path) -> Path:
    """The model, with its logits twice."""
    proto = onnx.load(digits_model)
    first, second = proto.graph.output[0], onnx.ValueInfoProto()
    second.CopyFrom(first)
    second.name = "twice"
    proto.graph.node.append(onnx.helper.make_node("Add", [first.name, first.name], ["twice"]))
    proto.graph.output.append(second)
    onnx.save(proto, tmp_path / "two.onnx")
    return tmp_path / "two.onnx"


def test_every_option_has_a_value_in_these_tests():
    assert [field.name for field in BuildOptions.fields()] == list(VALUES)


def test_the_typed_signature_has_the_fields_of_the_options():
    """``Unpack[GivenOptions]``: what type checkers see is what BuildOptions takes."""
    typed = typing.get_type_hints(GivenOptions)
    assert list(typed) == [field.name for field in BuildOptions.fields()]
    for field in BuildOptions.fields():
        taken, kept = (set(typing.get_args(k)) or {k} for k in (typed[field.name], field.kind))
        assert kept <= taken, field.name


def test_public_functions_that_take_options_say_so():
    for function in (compile_model, estimate_model, folds, check_model, open_staged, open_subject):
        hint = inspect.unwrap(function).__annotations__["given"]
        assert hint == "Unpack[GivenOptions]", function


def test_options_survive_a_manifest():
    options = BuildOptions(**VALUES)
    assert msgspec.json.decode(msgspec.json.encode(options), type=BuildOptions) == options
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(b'{"colour": 1}', type=BuildOptions)
    with pytest.raises(NeurocompileError, match="NC1007"):
        msgspec.json.decode(b'{"T": 0}', type=BuildOptions)


@pytest.mark.parametrize("name", VALUES)
def test_a_wrong_value_is_one_line_that_names_the_option(name):
    refused = 0
    for value in WRONG:
        try:
            kept = getattr(BuildOptions(**{name: value}), name)
        except NeurocompileError as error:
            assert name in error.message or name == "budget", error
            assert "\n" not in error.message
            refused += 1
        else:
            assert kept == value
    assert refused >= 8


@pytest.mark.parametrize("function", [compile_model, estimate_model, check_model, open_subject])
def test_every_way_in_takes_every_option(function):
    shown = inspect.signature(function).parameters
    for field in BuildOptions.fields():
        assert shown[field.name].default == field.default
    with pytest.raises(NeurocompileError, match=r"NC1015.*did you mean weight_bits\?"):
        function("absent.onnx", weight_bit=4)
    with pytest.raises(NeurocompileError, match="NC1015.*BuildOptions is needed"):
        function("absent.onnx", options={"T": 4})


@pytest.mark.parametrize(
    ("command", "left_out"),
    [
        ("build", set()),
        ("check", {"seed", "max_cores", "fold", "max_steps", "budget", "optimize"}),
        ("budget", {"seed", "max_cores", "fold", "max_steps", "budget", "optimize"}),
    ],
)
def test_commands_take_the_options_of_the_model(command, left_out, capsys):
    from neurocompile.cli import main

    with pytest.raises(SystemExit):
        main([command, "--help"])
    told = capsys.readouterr().out
    for name in set(VALUES) - left_out:
        flag = "--T " if name == "T" else f"--{name.replace('_', '-')} "
        assert flag in told, name
    assert "--calibration" in told


def test_a_head_is_chosen_the_same_way_everywhere(two_heads):
    assert len(open_model(two_heads).host.outputs) == 2
    first = open_model(two_heads, options=BuildOptions(head=0)).graph.text()
    for head in ("twice", 1, "1"):
        opened = open_model(two_heads, options=BuildOptions(head=head))
        assert opened.graph.text() != first and "Add" in opened.graph.text()
        assert check_model(two_heads, head=head).compiles
        subject = open_subject(two_heads, head=head)
        assert subject.canonical.output == canonicalize(opened.graph).output


def test_check_and_estimate_agree_on_T(digits_model):
    with pytest.warns(UserWarning, match="T is 2000, and .*itself runs 4 steps"):
        assert check_model(digits_model, T=2000).compiles
    with pytest.warns(UserWarning, match="T is 2000"):
        assert estimate_model(digits_model, T=2000).neurons
    for function in (check_model, estimate_model):
        with pytest.raises(NeurocompileError, match="NC1007"):
            function(digits_model, T=1 << 17)


def test_nothing_of_a_files_format_is_in_what_the_door_gives(digits_model):
    opened = open_model(digits_model)
    assert opened.options.T == opened.own_T == 4 and opened.samples is None
    for field in dataclasses.fields(opened):
        value = getattr(opened, field.name)
        if field.name != "reference":
            assert "onnx" not in f"{type(value).__module__}.{type(value).__name__}", field.name


def test_a_front_end_of_another_package_is_asked_first(digits_model, monkeypatch, tmp_path):
    class Renamed:
        def reads(self, model):
            return isinstance(model, Path) and model.suffix == ".renamed"

        def open(self, model, example_input, options, **rest):
            from neurocompile.frontends.onnx.frontend import OnnxFrontEnd

            return OnnxFrontEnd().open(model, example_input, options, **rest)

    entry = EntryPoint("renamed", "nowhere:front_end", door.GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: Renamed())
    monkeypatch.setattr(door, "entry_points", lambda group: [entry] if group == door.GROUP else [])
    (tmp_path / "m.renamed").write_bytes(digits_model.read_bytes())
    assert check_model(tmp_path / "m.renamed").compiles
    assert check_model(digits_model).compiles  # not for it: ours

    def broken(self):
        raise ImportError("no module of that name")

    monkeypatch.setattr(EntryPoint, "load", broken)
    with pytest.raises(NeurocompileError, match="NC1014 front end 'renamed'.*no module of that"):
        open_model(digits_model)


@pytest.mark.parametrize("command", ["budget", "build", "check", "finetune", "opt", "sweep"])
def test_every_command_that_reads_a_model_takes_its_options(command: str) -> None:
    from typer.main import get_command

    from neurocompile.cli import main  # noqa: F401 (registers the commands)
    from neurocompile.cli.common import app

    flags = {flag for p in get_command(app).commands[command].params for flag in p.opts}
    wanted = {("--" + name.replace("_", "-")) for name in BuildOptions().of_model()}
    other = {"sweep": {"--weight-bits"}, "finetune": set()}  # a list of its own: --bits
    assert wanted - flags <= other.get(command, set())
