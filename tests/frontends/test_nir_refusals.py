"""NIR files whose nodes or edges make no network are refused by the node's name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.door import open_model
from neurocompile.ir.evaluate import evaluate
from neurocompile.options import BuildOptions

h5py = pytest.importorskip("h5py")

from nir_files import STEPS, affine, chain, events, node, write  # noqa: E402


def windows(kind: str, **fields: object) -> tuple[str, dict[str, object]]:
    """A convolution or pool of one image, 3 x 3."""
    held = {"stride": [1, 1], "padding": [0, 0], "kernel_size": [3, 3], "dilation": [1, 1]}
    held |= {"groups": 1, "weight": np.ones((2, 1, 3, 3)), "bias": np.zeros(2)}
    return node(kind, **held | fields)


IMAGE, N = (1, 5, 5), np.ones(3)
CHAINS: dict[str, tuple[tuple[int, ...], list, str]] = {
    "an empty input": ((0,), [], r"input 'input' has the shape \[0\]"),
    "half a stride": (
        IMAGE,
        [windows("SumPool2d", stride=[0.5, 1])],
        r"'stride' of node '0' is \[0.5, 1.0\]",
    ),
    "a stride of 0": (
        IMAGE,
        [windows("SumPool2d", stride=[0, 1])],
        "a stride, kernel or dilation of 0",
    ),
    "a padding below 0": (IMAGE, [windows("SumPool2d", padding=[-1, 0])], "'padding' of node '0'"),
    "three numbers of rows": (
        IMAGE,
        [windows("SumPool2d", kernel_size=[1, 2, 3])],
        "'kernel_size' of node '0'",
    ),
    "a window that is too large": (
        IMAGE,
        [windows("SumPool2d", kernel_size=[9, 9])],
        r"leaves nothing of \[1, 5, 5\]",
    ),
    "a pool of a vector": ((4,), [windows("AvgPool2d")], "reads .4., no image"),
    "other channels": (
        (3, 5, 5),
        [windows("Conv2d")],
        r"in 1 groups, its weights are \[2, 1, 3, 3\]",
    ),
    "no groups": (IMAGE, [windows("Conv2d", groups=0)], "in 0 groups"),
    "a bias of three": (IMAGE, [windows("Conv2d", bias=np.ones(3))], "a bias of 3 for 2"),
    "a bias of two for four": (
        (4,),
        [node("Affine", weight=np.ones((4, 4)), bias=np.ones(2))],
        "a bias of 2 for 4",
    ),
    "a part that is flattened": (
        IMAGE,
        [node("Flatten", start_dim=2, end_dim=2)],
        r"flattens axes 2 to 2 of \[1, 5, 5\]",
    ),
    "parameters of others": (
        (3,),
        [node("IF", r=np.ones(2), v_threshold=N)],
        r"'r' of node '0' is \[2\], the node's array \[3\]",
    ),
    "a reset that is not 0": (
        (3,),
        [node("LIF", tau=2 * N, r=N, v_leak=0 * N, v_threshold=N, v_reset=N)],
        "subtracts and has a v_reset",
    ),
    "a membrane that leaks upwards": (
        (3,),
        [node("LI", tau=2 * N, r=N, v_leak=N)],
        "has a v_leak that is not 0",
    ),
    "two delays": (
        (3,),
        [node("Delay", delay=[1.0, 2.0, 2.0])],
        "one delay of 0 to 62 whole steps",
    ),
    "a delay of half a step": (
        (3,),
        [node("Delay", delay=[0.5] * 3)],
        "one delay of 0 to 62 whole steps",
    ),
    "a delay of 63": ((3,), [node("Delay", delay=[63.0] * 3)], "one delay of 0 to 62 whole steps"),
    "scales that differ": (
        (3,),
        [node("Scale", scale=[1.0, 2.0, 3.0]), node("Threshold", threshold=N)],
        "3 different values of scale",
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_node_that_cannot_be_is_named(tmp_path: Path, name: str) -> None:
    shape, nodes, why = CHAINS[name]
    how = "snntorch,dt=1" if "reset" in name else "euler,dt=1"
    path = chain(tmp_path / "net.nir", shape, nodes, shape)
    with pytest.raises(NeurocompileError, match=why) as caught:
        open_model(path, options=BuildOptions(discretize=how), calibration=events(shape))
    assert caught.value.code == "NC1003" and "\n" not in caught.value.message


NODES = {
    "input": node("Input", shape=[4]),
    "a": node("Threshold", threshold=np.full(4, 0.5)),
    "b": node("Flatten", start_dim=0, end_dim=-1),
    "c": affine(np.random.default_rng(1), 3, 4),
    "output": node("Output", shape=[4]),
}
WHOLE = [("input", "a"), ("a", "output")]
EDGES: dict[str, tuple[list[tuple[str, str]], dict, str]] = {
    "two inputs": (WHOLE, {"more": node("Input", shape=[4])}, "has 2 inputs and 1 outputs"),
    "an end that nothing reaches": (
        [("input", "a")],
        {},
        "nothing leads from the input to 'output'",
    ),
    "no edge at all": ([], {}, "nothing leads from the input to 'output'"),
    "two shapes": (
        [*WHOLE, ("a", "c"), ("c", "output")],
        {},
        r"'output' reads arrays of the shapes \[\[4\], \[3\]\]",
    ),
}


@pytest.mark.parametrize("name", EDGES)
def test_edges_that_make_no_network_are_named(tmp_path: Path, name: str) -> None:
    edges, more, why = EDGES[name]
    path = write(tmp_path / "net.nir", NODES | more, edges)
    with pytest.raises(NeurocompileError, match=why) as caught:
        open_model(path, options=BuildOptions(discretize="euler"), calibration=events((4,)))
    assert caught.value.code == "NC1003"


def test_a_node_that_leads_nowhere_changes_no_output(tmp_path: Path) -> None:
    def outputs(edges: list[tuple[str, str]]) -> np.ndarray:
        path, x = write(tmp_path / "net.nir", NODES, edges), events((4,))
        return evaluate(open_model(path, options=BuildOptions(), calibration=x).graph, x, STEPS)

    found, wanted = outputs([*WHOLE, ("a", "b")]), outputs(WHOLE)
    np.testing.assert_array_equal(found["output"], wanted["output"])
    assert wanted["output"].any()


def _edited(path: Path, place: str, value: object) -> Path:
    write(path, NODES, WHOLE)
    with h5py.File(path, "r+") as file:
        del file[place]
        file[place] = value
    return path


HARMS: dict[str, tuple[str, object, str, str]] = {
    "another top": ("node/type", b"Graph", "NC1002", "'node' is no NIRGraph"),
    "two types": ("node/type", np.array([b"NIRGraph"] * 2), "NC1002", "is no word"),
    "a node that is numbers": ("node/nodes/a", np.ones(3), "NC1002", "node 'a' is no group"),
    "edges of three": ("node/edges", np.array([[b"input", b"a", b"b"]]), "NC1002", "edges are"),
    "a word for numbers": ("node/nodes/a/threshold", b"high", "NC1002", "'threshold' of node 'a'"),
    "numbers for a kind": ("node/nodes/a/type", 7, "NC1003", "node 'a' of .* is a '7'"),
}


@pytest.mark.parametrize("name", HARMS)
def test_members_of_another_kind_are_named(tmp_path: Path, name: str) -> None:
    place, value, code, why = HARMS[name]
    path = _edited(tmp_path / "net.nir", place, value)
    with pytest.raises(NeurocompileError, match=why) as caught:
        open_model(path, options=BuildOptions(), calibration=events((4,)))
    assert caught.value.code == code


@pytest.mark.parametrize("ends", [1, 2])
def test_a_subgraph_is_its_nodes(tmp_path: Path, ends: int) -> None:
    """A NIRGraph in the place of a node; NC1002 where it has two outputs."""
    path, x = tmp_path / "net.nir", events((4,))
    write(path, NODES, WHOLE)
    plain = evaluate(open_model(path, options=BuildOptions(), calibration=x).graph, x, STEPS)
    write(path, NODES, WHOLE)
    with h5py.File(path, "r+") as file:
        node_a = file["node/nodes/a"]
        inner = file.create_group("node/nodes/sub")
        inner["type"] = b"NIRGraph"
        file.copy(node_a, inner.create_group("nodes"), "a")
        for name, kind in [("in", b"Input"), ("out", b"Output"), ("more", b"Output")][: 1 + ends]:
            group = inner.create_group(f"nodes/{name}")
            group["type"], group["shape"] = kind, np.array([4])
        inner["edges"] = np.array([[b"in", b"a"], [b"a", b"out"]])
        del file["node/edges"], file["node/nodes/a"]
        file["node/edges"] = np.array([[b"input", b"sub"], [b"sub", b"output"]])
    if ends > 1:
        with pytest.raises(NeurocompileError, match="NC1002.*'sub' has not one Input and one Out"):
            open_model(path, options=BuildOptions(), calibration=x)
        return
    found = evaluate(open_model(path, options=BuildOptions(), calibration=x).graph, x, STEPS)
    np.testing.assert_array_equal(found["output"], plain["output"])
