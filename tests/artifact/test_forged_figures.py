"""An artifact whose hashes are right and whose figures cannot be true loads nowhere."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_cases import ints, lif, model, normal, op, small, timed

import neurocompile
from neurocompile import NeurocompileError
from neurocompile.artifact.meaning import _numbers
from neurocompile.artifact.verify import verify

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def members(tmp_path_factory) -> dict[str, bytes]:
    """Of a network of one layer: small, so that each of many forgeries costs little."""
    folder = tmp_path_factory.mktemp("forged")
    rng = np.random.default_rng(0)
    onnx.save(small(), folder / "m.onnx")
    data = rng.random((8, 4)).astype(np.float32)
    neurocompile.compile(folder / "m.onnx", T=4, calibration=data).save(folder / "good.nca")
    verify(folder / "good.nca")
    with zipfile.ZipFile(folder / "good.nca") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def forge(members: dict[str, bytes], path: Path, member: str, change: Change) -> Path:
    """The artifact with ``change`` made to one JSON member, and every hash computed again."""
    content = json.loads(members[member])
    change(content)
    return pack(members | {member: json.dumps(content).encode()}, path)


def pack(members: dict[str, bytes], path: Path) -> Path:
    manifest = json.loads(members["manifest.json"])
    for name in manifest["members"]:
        manifest["members"][name] = hashlib.sha256(members[name]).hexdigest()
    with zipfile.ZipFile(path, "w") as file:
        for name, data in (members | {"manifest.json": json.dumps(manifest).encode()}).items():
            file.writestr(name, data)
    return path


def every(rates: dict[str, float], value: float) -> None:
    rates.update(dict.fromkeys(rates, value))


IMPOSSIBLE: dict[str, tuple[str, Change]] = {
    "negative rates": ("manifest.json", lambda m: every(m["rates"], -5.0)),
    "rates above 1": ("manifest.json", lambda m: every(m["rates"], 1e308)),
    "a rate too few": ("manifest.json", lambda m: m["rates"].popitem()),
    "rates of others": ("manifest.json", lambda m: m["rates"].update(other=0.5)),
    "agreement below 0": ("manifest.json", lambda m: m.update(import_agreement=-3)),
    "agreement above 1": ("manifest.json", lambda m: m.update(import_agreement=1.5)),
    "exported T below 0": ("manifest.json", lambda m: m.update(exported_T=-1)),
    "T = 0": ("manifest.json", lambda m: m["options"].update(T=0)),
    "T = 1,000,000,000": ("manifest.json", lambda m: m["options"].update(T=10**9)),
    "another T": ("manifest.json", lambda m: m["options"].update(T=5)),
    "99 weight bits": ("manifest.json", lambda m: m["options"].update(weight_bits=99)),
    "another target": ("manifest.json", lambda m: m["options"].update(target="../x")),
    "another way to compose": ("manifest.json", lambda m: m["options"].update(convolutions="x")),
    "another model": ("manifest.json", lambda m: m.update(model="other")),
    "another exported T": ("manifest.json", lambda m: m.update(exported_T=9)),
    "a hash of a model that is none": ("manifest.json", lambda m: m.update(source_sha256="x")),
    "a name of 5,000 letters": ("manifest.json", lambda m: m.update(rates_source="x" * 5000)),
    "another seed": ("manifest.json", lambda m: m["options"].update(seed=7)),
    "a mapping's seed without end": ("mapping.json", lambda m: m.update(seed=10**30)),
    "a budget that nobody keeps": (
        "manifest.json",
        lambda m: m["options"].update(budget="spikes=9"),
    ),
    "a refinement that left nothing": (
        "manifest.json",
        lambda m: m["options"].update(optimize="packets"),
    ),
    "shares that nobody asked for": (
        "mapping.json",
        lambda m: m.update(spikes_per_core_step={"l": 9.0}),
    ),
    "fewer neurons than its tiles": (
        "mapping.json",
        lambda m: m["cores"][0]["used"].update(neurons=1),
    ),
    "a hash of the proof that is none": (
        "manifest.json",
        lambda m: m["proof"].update(sha256="0" * 63 + "G"),
    ),
    "no proof samples": ("manifest.json", lambda m: m["proof"].update(samples=0)),
    "endless proof samples": ("manifest.json", lambda m: m["proof"].update(samples=10**9)),
    "least cores of -1": ("mapping.json", lambda m: m.update(lower_bound=-1)),
    "least cores above the cores": ("mapping.json", lambda m: m.update(lower_bound=99)),
    "negative traffic": ("mapping.json", lambda m: m["traffic"].update(packets=-1.0)),
    "no cores": ("mapping.json", lambda m: m.update(cores=[])),
    "a core off the chip": ("mapping.json", lambda m: m["cores"][0].update(x=10**6)),
    "a chip of -7": ("mapping.json", lambda m: m["cores"][0].update(chip=-7)),
    "a tile too long": ("mapping.json", lambda m: m["cores"][0]["tiles"][0].update(stop=[8])),
    "resources below 0": ("mapping.json", lambda m: m["cores"][0]["used"].update(neurons=-1)),
    "resources above the core": (
        "mapping.json",
        lambda m: m["cores"][0]["used"].update(neurons=10**9),
    ),
    "another circuit's mapping": ("mapping.json", lambda m: m.update(circuit="other")),
    "calibration rates above 1": (
        "calibration.json",
        lambda m: m["layers"].update(l={"rate": 1e6, "channel_rate": []}),
    ),
    "calibration without order": ("calibration.json", lambda m: m["input"].update(min=9.0)),
    "an open T": ("manifest.json", lambda m: m["options"].update(T=None)),
    "open weight bits": ("manifest.json", lambda m: m["options"].update(weight_bits=None)),
    "an exported T of 100,000": ("manifest.json", lambda m: m.update(exported_T=100_000)),
    "messages below 0": ("mapping.json", lambda m: m.update(spikes_per_core_step=-1.0)),
    "a layer's messages below 0": (
        "mapping.json",
        lambda m: m.update(spikes_per_core_step={"l": -1.0}),
    ),
    "calibration of -1 samples": ("calibration.json", lambda m: m.update(samples=-1)),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_an_impossible_figure_does_not_load(name, members, tmp_path):
    path = forge(members, tmp_path / "forged.nca", *IMPOSSIBLE[name])
    with pytest.raises(NeurocompileError) as error:
        neurocompile.load(path)
    assert error.value.code in ("NC5001", "NC5004")  # an option out of range, another figure
    assert len(str(error.value).split("\n")) <= 20


@pytest.fixture(scope="module")
def with_budget(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("budget")
    onnx.save(small(), folder / "m.onnx")
    data = np.random.default_rng(0).random((8, 4)).astype(np.float32)
    program = neurocompile.compile(
        folder / "m.onnx", calibration=data, budget="spikes=40", optimize="packets", max_cores=3
    )
    program.save(folder / "good.nca")
    verify(folder / "good.nca")
    with zipfile.ZipFile(folder / "good.nca") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


BUDGET: dict[str, Change] = {
    "forgotten": lambda b: b.clear() or b.update(BUDGET_OF_NOTHING),
    "of another text": lambda b: b.update(text="spikes=41"),
    "of other spikes": lambda b: b.update(total=41.0),
    "of an error": lambda b: b.update(epsilon=0.1),
    "of a layer that is none": lambda b: b["layers"][0].update(layer="other"),
    "of a layer twice": lambda b: b.update(layers=b["layers"] * 2),
    "with shares above 1": lambda b: b["layers"][0].update(share=1.5),
    "with more spikes by layer": lambda b: b["layers"][0].update(spikes=41.0),
    "with more messages by layer": lambda b: b["layers"][0].update(granted=1e6),
    "that grants other than the mapping keeps": lambda b: b["layers"][0].update(per_core_step=1.0),
    "whose worst core is none": lambda b: b.update(held_out_core=1),
    "with more cores than there are": lambda b: b.update(cores_without=10**6),
    "that moves and does not bind": lambda b: b.update(
        moved=[{"core": 0, "layers": ["l"], "messages": 1.0, "part": 0.5}]
    ),
}
BUDGET_OF_NOTHING = {
    "text": "spikes=40", "total": 40.0, "basis": "", "epsilon": None, "constant": 1.0,
    "lipschitz": None, "dimension": None, "layers": [], "messages": 0.0, "cores_without": 1,
    "per_core_step": 0.0,
}  # fmt: skip


@pytest.mark.parametrize("name", BUDGET)
def test_a_budget_that_cannot_be_does_not_load(name, with_budget, tmp_path):
    def change(manifest: dict[str, Any]) -> None:
        BUDGET[name](manifest["budget"])

    path = forge(with_budget, tmp_path / "forged.nca", "manifest.json", change)
    with pytest.raises(NeurocompileError, match="NC5004"):
        neurocompile.load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(optimized=None),
        lambda m: m["optimized"].update(objective="time"),
        lambda m: m["optimized"].update(samples=0),
        lambda m: m["optimized"].update(after=9e9),
        lambda m: m["options"].update(budget=None),
        lambda m: m.update(budget=None),
    ],
)
def test_what_was_asked_for_is_what_is_kept(change, with_budget, tmp_path):
    def smaller(mapping: dict[str, Any]) -> None:
        mapping["spikes_per_core_step"]["l"] = 1.0

    path = tmp_path / "forged.nca"
    with pytest.raises(NeurocompileError, match="NC5004"):
        neurocompile.load(forge(with_budget, path, "manifest.json", change))
    with pytest.raises(NeurocompileError, match=r"NC5004.* another budget"):
        neurocompile.load(forge(with_budget, path, "mapping.json", smaller))


def test_no_core_sends_more_than_the_budget_that_the_mapping_keeps(with_budget, tmp_path):
    mapping, manifest = (
        json.loads(with_budget[name]) for name in ("mapping.json", "manifest.json")
    )
    mapping["spikes_per_core_step"]["l"] = 0.01
    manifest["budget"]["layers"][0]["per_core_step"] = 0.01
    new = {"mapping.json": json.dumps(mapping), "manifest.json": json.dumps(manifest)}
    path = pack(with_budget | {k: v.encode() for k, v in new.items()}, tmp_path / "forged.nca")
    with pytest.raises(NeurocompileError, match=r"NC5004.* times what its layers grant"):
        neurocompile.load(path)


def test_options_hold_for_the_mapping(tmp_path):
    nodes, constants = timed(
        (1, 4, 4),
        [
            op("Reshape", "t folded", "s"),
            op("Conv", "s w", "c", kernel_shape=[3, 3], pads=[1] * 4),
            op("Reshape", "c apart", "f"),
            lif("f", "l"),
            op("ReduceMean", "l zero", "m", keepdims=0),
            op("ReduceMean", "m places", "out", keepdims=0),
        ],
    )
    constants |= {"folded": ints(-1, 1, 4, 4), "apart": ints(4, -1, 2, 4, 4), "places": ints(2, 3)}
    onnx.save(
        model(nodes, constants | {"w": normal(2, 1, 3, 3)}, ("batch", 1, 4, 4)), tmp_path / "m.onnx"
    )
    x = np.random.default_rng(0).random((4, 1, 4, 4)).astype(np.float32)
    neurocompile.compile(tmp_path / "m.onnx", fold="1x2", calibration=x).save(tmp_path / "good.nca")
    with zipfile.ZipFile(tmp_path / "good.nca") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for wrong in ({"max_steps": 4}, {"fold": "none"}):

        def change(manifest: dict[str, Any], wrong: dict[str, Any] = wrong) -> None:
            manifest["options"].update(wrong)

        path = forge(members, tmp_path / "forged.nca", "manifest.json", change)
        with pytest.raises(NeurocompileError, match="NC5004"):
            neurocompile.load(path)


@pytest.mark.parametrize("text", [b'"a\\nerror: all is well"', b'"' + b"a" * 10**5 + b'"'])
@pytest.mark.parametrize("member", ["manifest.json", "mapping.json", "circuit.txt"])
def test_a_name_of_a_stranger_stays_in_its_line(member, text, members, tmp_path):
    field = b'"loihi2"' if member != "circuit.txt" else b'circuit "m"'
    new = text if member != "circuit.txt" else b"circuit " + text
    assert field in members[member]
    path = pack(members | {member: members[member].replace(field, new)}, tmp_path / "forged.nca")
    with pytest.raises(NeurocompileError, match="NC500[14]") as error:
        neurocompile.load(path)
    for line in str(error.value).split("\n"):
        assert line.startswith("NC500") and line.isprintable() and len(line) < 2000


@pytest.mark.parametrize(
    ("field", "value"), [("packets", 1e9), ("hops", 1e9), ("local", 0.125), ("to_host", 1e6)]
)
def test_possible_traffic_that_was_not_counted_does_not_verify(field, value, members, tmp_path):
    path = forge(
        members,
        tmp_path / "forged.nca",
        "mapping.json",
        lambda m: m["traffic"].update({field: value}),
    )
    neurocompile.load(path)
    with pytest.raises(NeurocompileError, match=rf"NC5004.* {field} a step, counted"):
        verify(path)


def test_a_proof_of_other_steps_does_not_verify(members, tmp_path):
    path = forge(
        members,
        tmp_path / "forged.nca",
        "manifest.json",
        lambda m: m["proof"].update(sha256="0" * 64),
    )
    with pytest.raises(NeurocompileError, match="NC5004.*do not reproduce"):
        verify(path)


@pytest.mark.parametrize("period", [0, -1, 3, 8, 10**9])
def test_a_period_is_the_one_that_T_gives(period, members, tmp_path):
    text = members["circuit.txt"].replace(b"period = 4", b"period = %d" % period, 1)
    assert text != members["circuit.txt"]
    path = pack(members | {"circuit.txt": text}, tmp_path / "forged.nca")
    with pytest.raises(NeurocompileError, match="NC500[14]"):
        neurocompile.load(path)


@pytest.mark.parametrize(
    ("said", "forged"),
    [
        (b"{steps = 4,", b"{steps = 0,"),
        (b"{steps = 4,", b"{steps = 70000,"),
        (b"depth = 1, vth", b"depth = 1000000, vth"),
        (b"depth = 1, vth", b"depth = -1, vth"),
        (b"depth = ", b"depth = 100000"),
        (b'circuit "m"', b'circuit "n"'),
    ],
)
def test_a_circuit_that_cannot_be_does_not_load(said, forged, members, tmp_path):
    assert said in members["circuit.txt"]
    text = members["circuit.txt"].replace(said, forged)
    with pytest.raises(NeurocompileError, match="NC500[14]|NC2004 after load"):
        neurocompile.load(pack(members | {"circuit.txt": text}, tmp_path / "forged.nca"))


@pytest.mark.parametrize("stage", [b'"canonical"', b"[[1]]", b"3"])
def test_a_quantized_graph_says_that_it_is_one(stage, members, tmp_path):
    text = members["quantized.txt"].replace(b'stage = "quantized"', b"stage = " + stage, 1)
    assert text != members["quantized.txt"]
    path = pack(members | {"quantized.txt": text}, tmp_path / "forged.nca")
    with pytest.raises(NeurocompileError) as error:
        neurocompile.load(path)
    assert error.value.code == "NC5001"


@pytest.mark.parametrize("member", ["manifest.json", "versions.json", "mapping.json"])
def test_json_that_is_nested_without_end_is_a_damaged_artifact(member, members, tmp_path):
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    path = tmp_path / "deep.nca"
    with zipfile.ZipFile(path, "w") as file:
        for name, data in (members | {member: deep}).items():
            file.writestr(name, data)
    with pytest.raises(NeurocompileError, match="NC500[12]"):
        neurocompile.load(path)


def test_members_twice_or_unknown_are_refused_before_they_are_read(members, tmp_path):
    path = tmp_path / "twice.nca"
    with zipfile.ZipFile(path, "w") as file:
        for name, data in (*members.items(), ("extra", b"")):
            file.writestr(name, data)
    with pytest.raises(NeurocompileError, match="NC5001"):
        neurocompile.load(path)


def test_the_least_number_of_cores_and_the_seed_may_be_0_and_not_below() -> None:
    """A mapping made by hand says 0: no bound is known."""

    def complaints(**changes: int) -> list[str]:
        said = {
            "traffic": {},
            "method": "",
            "lower_bound": 0,
            "seed": 0,
            "spikes_per_core_step": {},
        } | changes
        return list(
            _numbers(SimpleNamespace(manifest={}, calibration={}, mapping=SimpleNamespace(**said)))
        )

    assert complaints() == []
    assert len(complaints(lower_bound=-1)) == len(complaints(seed=-1)) == 1
