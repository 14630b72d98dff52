"""Whatever is given in whatever place: a result, or one NeurocompileError."""

from __future__ import annotations

import collections
import fractions
import io
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest

import neurocompile
from neurocompile.check import check_model
from neurocompile.errors import NeurocompileError, not_importable
from neurocompile.guard import guarded
from neurocompile.parity.check import parity
from neurocompile.pipeline import estimate_model
from neurocompile.theory.measure.subject import open_subject


class Hostile:
    """Raises whenever it is looked at."""

    def __fspath__(self):
        raise ValueError("no path")

    def __repr__(self):
        raise RuntimeError("no repr")

    def __array__(self, *_, **__):
        raise RuntimeError("no array")

    def __iter__(self):
        raise RuntimeError("no items")

    def __len__(self):
        return -1


VALUES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    1 << 70,
    0.0,
    1.5,
    float("nan"),
    float("inf"),
    1j,
    fractions.Fraction(1, 3),
    "",
    " ",
    "absent",
    "absent.nca",
    "a:b",
    "os:getcwd",
    "\0",
    "x" * 5000,
    "..",
    ".",
    "/",
    "/dev/null",
    b"",
    b"absent",
    bytearray(3),
    [],
    [1, "a"],
    [[1], [2, 3]],
    (),
    (None,),
    ({},),
    {},
    {"a": 1},
    {"state_dict": {}},
    set(),
    frozenset({1}),
    collections.OrderedDict(w=np.zeros(2)),
    range(3),
    iter([]),
    object,
    object(),
    Hostile,
    Hostile(),
    lambda: None,
    print,
    types.SimpleNamespace(),
    io.BytesIO(),
    pathlib.Path("absent"),
    pathlib.Path("."),
    np.zeros(()),
    np.zeros((0, 3)),
    np.float32(3),
    np.zeros((2, 1, 8, 8), np.uint8),
    np.full((2, 1, 8, 8), np.nan),
    np.array(["a"]),
    np.array([None]),
    np.zeros((2, 2), [("a", "f4")]),
    np.datetime64("2020-01-01"),
    np.ma.masked_array([1.0]),
    ValueError("x"),
    ...,
]
OPTIONS = (
    "target",
    "T",
    "weight_bits",
    "seed",
    "max_cores",
    "budget",
    "per_sample_lif",
    "head",
    "convolutions",
)


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """Nothing that a value names is there."""
    monkeypatch.chdir(tmp_path)


def only_ours(call, *arguments, **named) -> str:
    """The code of what ``call`` raises, or "" if it gives a result."""
    try:
        call(*arguments, **named)
    except NeurocompileError as error:
        assert error.code != "NC9001", error
        return error.code
    return ""


@pytest.mark.parametrize(
    "call", [neurocompile.compile, estimate_model, check_model, open_subject, neurocompile.load]
)
def test_in_place_of_a_model(call):
    codes = {only_ours(call, value) for value in VALUES}
    assert "" not in codes and codes


@pytest.mark.parametrize("call", [estimate_model, check_model, open_subject])
@pytest.mark.parametrize("name", [*OPTIONS, "options", "calibration"])
def test_in_place_of_an_option(call, name, digits_model):
    codes = [only_ours(call, "absent.onnx", **{name: value}) for value in VALUES]
    assert all(codes)  # there is no such file
    if name in OPTIONS:
        assert len([code for code in codes if code != "NC1001"]) > len(VALUES) // 2


def test_in_place_of_samples_and_the_rest(digits_program):
    x = np.zeros((1, 1, 8, 8), np.float32)
    for value in VALUES:
        assert only_ours(digits_program.run, value), value
        assert only_ours(digits_program.trace, value)
        assert only_ours(digits_program.parity, value)
        assert only_ours(digits_program.run, x, value) == "NC4005"
        assert only_ours(parity, value, x) == "NC1015"
        if value is not None:
            assert only_ours(digits_program.parity, x, value, against=())
            assert only_ours(digits_program.parity, x, against=(), reference=value)
        only_ours(digits_program.parity, x, against=value)
        assert only_ours(digits_program.parity, x, against=(), device=value)
        if not isinstance(value, (str, pathlib.Path)):
            assert only_ours(digits_program.save, value)


def test_calls_with_other_arguments_are_one_line():
    assert only_ours(neurocompile.compile) == "NC1015"
    assert only_ours(neurocompile.compile, "a", "b", "c") == "NC1015"
    with pytest.raises(NeurocompileError, match=r"NC1015 compile_model\(\) missing 1 required"):
        neurocompile.compile()


def test_what_nobody_foresaw_names_the_call_and_keeps_its_cause():
    @guarded
    def build(model):
        raise KeyError("node_lif")

    with pytest.raises(NeurocompileError, match="NC9001 build of 'm.onnx': KeyError") as error:
        build("m.onnx")
    assert isinstance(error.value.__cause__, KeyError)

    @guarded
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()


def test_a_package_that_lacks_another_is_told_apart_from_one_that_is_not_there():
    absent = not_importable(
        "x", ModuleNotFoundError("No module named 'torch'", name="torch"), "torch"
    )
    assert "needs the package torch: pip install 'neurocompile[torch]'" in absent.message
    inner = ModuleNotFoundError("No module named 'scipy'", name="scipy")
    assert "do not import: No module named 'scipy'" in not_importable("x", inner, "torch").message


def test_a_broken_spikingjelly_says_what_breaks_it(tmp_path):
    pytest.importorskip("torch")
    (tmp_path / "spikingjelly").mkdir()
    (tmp_path / "spikingjelly" / "__init__.py").write_text("import a_package_that_is_not_there\n")
    code = (
        "import numpy as np\nfrom neurocompile.reference.spikingjelly import run_spikingjelly\n"
        "try:\n    run_spikingjelly(None, np.zeros(1), 1)\nexcept Exception as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.startswith("NC4001 ") and "a_package_that_is_not_there" in done.stdout, done
