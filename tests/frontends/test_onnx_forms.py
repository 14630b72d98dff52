"""Convolutions, padding and constants in the forms that files of others have, against onnxruntime."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from onnx_cases import imported, ints, lif, model, normal, op, refused, small, timed

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx.reference import run_onnx
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import evaluate
from neurocompile.passes.canonicalize import canonicalize

Sizes = tuple[int, ...]


def net(
    nodes: list, weight: Sizes, shape: Sizes, out: Sizes, folder: Path, **constants
) -> s.SpikingGraph:
    """x repeated over 4 steps as rows 'r', ``nodes`` from 'r' to 'c', a LIF and a mean; compared
    with onnxruntime.
    """
    body = [op("Reshape", "t rows", "r"), *nodes, op("Reshape", "c cut", "c5"), lif("c5", "l")]
    body.append(op("ReduceMean", "l zero", "out", keepdims=0))
    found, fixed = timed(shape, body)
    shapes = {
        "rows": ints(-1, *shape),
        "cut": ints(4, -1, *out),
        "k": normal(*weight),
        "b": normal(weight[0], seed=1),
    }
    loaded, got = imported(
        model(found, {**fixed, **shapes, **constants}, ("batch", *shape)), folder
    )
    x = np.random.default_rng(0).uniform(0, 2, (3, *shape)).astype(np.float32)
    reference = run_onnx(loaded, got, x)
    ours = evaluate(got.graph, x, 4, list(reference.layers))
    for name, spikes in reference.layers.items():
        assert 0.02 < spikes.mean() < 0.98
        np.testing.assert_array_equal(ours[name], spikes)
    return got.graph


CONVOLUTIONS = {
    "one_axis": ((5, 4, 3), (4, 9), (5, 9), {"pads": [1, 1]}),
    "one_axis_pointwise": ((5, 4, 1), (4, 9), (5, 9), {}),
    "one_axis_strided_dilated_grouped": (
        (6, 2, 3),
        (4, 11),
        (6, 4),
        {"strides": [2], "dilations": [2], "group": 2},
    ),
    "grouped": ((6, 2, 3, 3), (4, 6, 6), (6, 6, 6), {"pads": [1, 1, 1, 1], "group": 2}),
    "depthwise": ((4, 1, 3, 3), (4, 6, 6), (4, 6, 6), {"pads": [1, 1, 1, 1], "group": 4}),
    "strided_dilated": (
        (5, 4, 3, 3),
        (4, 9, 9),
        (5, 3, 3),
        {"strides": [2, 2], "dilations": [2, 2]},
    ),
    "unequal_pads": ((5, 4, 3, 3), (4, 6, 6), (5, 3, 3), {"pads": [0, 0, 1, 1], "strides": [2, 2]}),
    "unequal_pads_the_other_way": ((5, 4, 3, 2), (4, 6, 6), (5, 6, 6), {"pads": [2, 1, 0, 0]}),
    "same_upper": (
        (5, 4, 3, 3),
        (4, 6, 6),
        (5, 3, 3),
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    ),
    "same_lower": ((5, 4, 2, 2), (4, 5, 5), (5, 5, 5), {"auto_pad": "SAME_LOWER"}),
}


@pytest.mark.parametrize("form", CONVOLUTIONS)
def test_a_convolution(form: str, tmp_path: Path) -> None:
    weight, shape, out, attributes = CONVOLUTIONS[form]
    graph = net([op("Conv", "r k b", "c", **attributes)], weight, shape, out, tmp_path)
    assert [type(n).__name__ for n in graph.nodes].count("Conv2d") == 1


def test_zeros_around_a_map_are_padding_of_its_convolution(tmp_path: Path) -> None:
    nodes = [op("Pad", "r pads", "p"), op("Conv", "p k b", "c")]
    graph = net(
        nodes, (5, 4, 3, 3), (4, 6, 6), (5, 6, 6), tmp_path, pads=ints(0, 0, 1, 1, 0, 0, 1, 1)
    )
    (conv,) = (n for n in graph.nodes if isinstance(n, s.Conv2d))
    assert conv.padding == (1, 1)


def test_zeros_around_spikes_stay(tmp_path: Path) -> None:
    nodes = [op("Pad", "r pads", "c")]
    net(nodes, (4, 4, 1, 1), (4, 4, 4), (4, 6, 6), tmp_path, pads=ints(0, 0, 1, 1, 0, 0, 1, 1))


@pytest.mark.parametrize(
    ("kind", "inputs", "value"),
    [
        ("Sub", "f v", normal(5, 1, 1)),
        ("Sub", "v f", normal(5, 1, 1)),
        ("Mul", "f v", normal(1, 5, 1, 1)),
        ("Div", "f v", 1 + abs(normal(5, 1, 1))),
        ("Add", "f v", np.float32(0.25)),
        ("Sub", "f v", normal(1)),
    ],
)
def test_constants_for_each_channel(
    kind: str, inputs: str, value: np.ndarray, tmp_path: Path
) -> None:
    nodes = [op("Conv", "r k b", "f", pads=[1, 1, 1, 1]), op(kind, inputs, "c")]
    net(nodes, (5, 4, 3, 3), (4, 6, 6), (5, 6, 6), tmp_path, v=np.asarray(value, np.float32))


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (op("Pad", "r pads", "c", mode="other"), "mode other"),
        (op("Conv", "r k b", "c", pads=[1, 1, 1, 10**12]), "numbers from 0 to"),
        (op("Conv", "r k b", "c", pads=[-1, 0, 0, 0]), "pads"),
        (op("Conv", "r k b", "c", auto_pad="SOME"), "auto_pad"),
        (op("ScatterND", "r idx upd", "c"), "writes into a signal"),
    ],
)
def test_other_borders_are_refused(node, why: str, tmp_path: Path) -> None:
    constants = {
        "odd": ints(0, 0, 0, 0, 0, 0, 1, 1),
        "pads": ints(0, 0, 1, 1, 0, 0, 1, 1),
        "idx": ints(0).reshape(1, 1),
    }
    with pytest.raises(NeurocompileError, match=rf"NC1009 node 'n_c'.*{why}|NC1002"):
        net(
            [node],
            (5, 4, 3, 3),
            (4, 6, 6),
            (5, 6, 6),
            tmp_path,
            upd=normal(1, 4, 6, 6),
            **constants,
        )


def test_a_batch_that_an_exporter_stored_is_told_so(tmp_path: Path) -> None:
    nodes = [op("Reshape", "t kept", "f")]
    refused(
        small(nodes, constants={"kept": ints(4, 2, 4)}),
        tmp_path,
        "NC1009",
        r"reshape \[4, batch, 4\] to \[4, 2, 4\]: the exporter",
    )


OLD_RUNTIME = tuple(int(n) for n in version("onnxruntime").split(".")[:2]) < (1, 24)


@pytest.mark.parametrize("pads", [(0, 1, 1, 2), (2, 0, 1, 1), (1, 1, 1, 1)])
@pytest.mark.parametrize("before", ["Conv", "MaxPool", "nothing"])
def test_a_pad_whose_two_ends_differ(before: str, pads: Sizes, tmp_path: Path) -> None:
    if before == "MaxPool" and max(pads) >= 2 and OLD_RUNTIME:
        pytest.skip("this onnxruntime moves the Pad into the pool and then refuses it")
    (top, left, bottom, right), inner = pads, (4, 6, 6)
    out = (6 + top + bottom, 6 + left + right)
    nodes = [op("Pad", "r pads", "p")]
    if before == "Conv":
        out = (out[0] - 2, out[1] - 2)
        nodes.append(op("Conv", "p k b", "c"))
    elif before == "MaxPool":
        out = (out[0] // 2, out[1] // 2)
        nodes.append(op("MaxPool", "p", "c", kernel_shape=[2, 2], strides=[2, 2]))
    else:
        nodes.append(op("Identity", "p", "c"))
    border = ints(0, 0, top, left, 0, 0, bottom, right)
    found = net(nodes, (4, 4, 3, 3), inner, (4, *out), tmp_path, pads=border)
    assert sum(isinstance(n, s.Conv2d) for n in found.nodes) == 1


POOLS = {
    "rounded_up": (
        (4, 6, 7),
        (4, 3, 3),
        {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1},
    ),
    "rounded_up_padded": (
        (4, 7, 7),
        (4, 4, 4),
        {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    ),
    "unequal_pads": (
        (4, 6, 6),
        (4, 3, 6),
        {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [0, 1, 1, 1]},
    ),
    "same_upper": (
        (4, 5, 6),
        (4, 3, 3),
        {"kernel_shape": [2, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    ),
    "same_lower": (
        (4, 5, 6),
        (4, 3, 3),
        {"kernel_shape": [2, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    ),
    "one_axis_rounded_up": ((4, 8), (4, 4), {"kernel_shape": [3], "strides": [2], "ceil_mode": 1}),
    "padded": ((4, 6, 6), (4, 6, 6), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
}


@pytest.mark.parametrize("form", POOLS)
@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool", "counts its border"])
def test_windows_of_pools(kind: str, form: str, tmp_path: Path) -> None:
    shape, out, attributes = POOLS[form]
    if kind == "counts its border":
        attributes = {**attributes, "count_include_pad": 1}
    # the pool of a convolution of both signs, so that a border of 0 would win
    nodes = [
        op("Conv", "r k b", "f"),
        op("MaxPool" if kind == "MaxPool" else "AveragePool", "f", "p", **attributes),
        op("Mul", "p three", "c"),
    ]
    weight = (4, 4, *[1] * (len(shape) - 1))
    net(nodes, weight, shape, out, tmp_path, three=np.float32(3))


@pytest.mark.parametrize("kind", ["GlobalMaxPool", "ReduceMax"])
def test_the_largest_value_of_all_positions(kind: str, tmp_path: Path) -> None:
    inputs = "f" if kind == "GlobalMaxPool" else "f last"
    few = {"few": np.float32(0.15)}
    nodes = [op("Conv", "r k b", "f"), op(kind, inputs, "g"), op("Mul", "g few", "c")]
    net(nodes, (4, 4, 3, 3), (4, 5, 6), (4, 1, 1), tmp_path, last=ints(2, 3), **few)
    nodes[1] = op("ReduceMax", "f last", "g", keepdims=0)
    net(nodes, (4, 4, 3, 3), (4, 5, 6), (3, 4), tmp_path, last=ints(1), **few)


TRANSPOSED = {
    "stride_is_kernel": ((4, 5, 2, 2), (4, 3, 4), (5, 6, 8), {"strides": [2, 2]}),
    "overlapping": ((4, 5, 4, 4), (4, 3, 4), (5, 6, 8), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "output_padding": (
        (4, 5, 3, 3),
        (4, 3, 4),
        (5, 6, 8),
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
    ),
    "odd_size": ((4, 5, 3, 3), (4, 3, 4), (5, 7, 9), {"strides": [2, 2]}),
    "unequal_pads": ((4, 5, 3, 2), (4, 3, 4), (5, 9, 4), {"strides": [3, 1], "pads": [0, 1, 0, 0]}),
    "grouped": ((4, 3, 3, 3), (4, 3, 4), (6, 3, 4), {"group": 2, "pads": [1, 1, 1, 1]}),
    "one_axis": ((4, 5, 4), (4, 6), (5, 12), {"strides": [2], "pads": [1, 1]}),
}


@pytest.mark.parametrize("form", TRANSPOSED)
def test_transposed_convolutions(form: str, tmp_path: Path) -> None:
    weight, shape, out, attributes = TRANSPOSED[form]
    bias = {"b": normal(out[0], seed=1)}
    nodes = [op("ConvTranspose", "r k b", "f", **attributes), op("Mul", "f half_of", "c")]
    net(nodes, weight, shape, out, tmp_path, **bias, half_of=np.float32(0.5))


@pytest.mark.parametrize("by_size", [False, True])
@pytest.mark.parametrize("factors", [(2, 2), (3, 1), (1, 2), (2,)])
def test_nearest_interpolation_by_whole_factors(
    factors: Sizes, by_size: bool, tmp_path: Path
) -> None:
    shape = (4, 3, 5)[: 1 + len(factors)]
    out = (5, *(n * f for n, f in zip(shape[1:], factors)))
    weight = (5, 4, *[1] * len(factors))
    wanted = {"size": np.array([12, 5, *out[1:]], np.int64)} if by_size else {}
    fixed = {} if by_size else {"scales": np.array([1, 1, *factors], np.float32)}
    if by_size:  # the batch is open: sizes are computed from it
        nodes = [
            op("Conv", "r k b", "f"),
            op("Shape", "f", "lead", start=0, end=2),
            op("Concat", "lead grown", "sizes", axis=0),
            op("Resize", "f  sizes".replace("  ", "   "), "c", mode="nearest"),
        ]
        nodes[-1].input[:] = ["f", "", "", "sizes"]
        fixed, wanted = {"grown": ints(*out[1:])}, {}
    else:
        nodes = [op("Conv", "r k b", "f"), op("Resize", "f scales", "c", mode="nearest")]
        nodes[-1].input[:] = ["f", "", "scales"]
    nodes[-1].attribute.append(
        helper.make_attribute("coordinate_transformation_mode", "asymmetric")
    )
    nodes[-1].attribute.append(helper.make_attribute("nearest_mode", "floor"))
    net(nodes, weight, shape, out, tmp_path, **fixed, **wanted)


@pytest.mark.parametrize(
    "nodes",
    [
        [op("Relu", "s", "c1")],
        [op("Clip", "s low high", "c1")],
        [op("Abs", "s", "c1")],
        [op("Cast", "s", "i", to=7), op("Cast", "i", "c1", to=1)],
        [op("Cast", "s", "i", to=9), op("Cast", "i", "c1", to=1)],
        [op("Add", "s s", "twice"), op("Relu", "twice", "c1")],
        [
            op("MaxPool", "s", "m", kernel_shape=[3, 3], pads=[1] * 4),
            op("Clip", "m low high", "c1"),
        ],
    ],
    ids=lambda nodes: " ".join(n.op_type for n in nodes),
)
def test_what_changes_no_spikes_is_nothing(nodes: list, tmp_path: Path) -> None:
    front = [op("Reshape", "r cut", "r5"), lif("r5", "s5"), op("Reshape", "s5 rows", "s")]
    ends = {"low": np.float32(0), "high": np.float32(1)}
    found = net(
        [*front, *nodes, op("Conv", "c1 k b", "c")],
        (4, 4, 1, 1),
        (4, 5, 5),
        (4, 5, 5),
        tmp_path,
        **ends,
    )
    assert not any(type(n).__name__ in ("Scale", "Offset") for n in found.nodes)


def test_a_cut_of_currents_is_refused(tmp_path: Path) -> None:
    for cut in (op("Round", "f", "c"), op("Cast", "f", "c", to=7)):
        with pytest.raises(NeurocompileError, match="NC1003|NC1009"):
            nodes = [op("Conv", "r k b", "f"), cut]
            net(nodes, (4, 4, 1, 1), (4, 5, 5), (4, 5, 5), tmp_path, low=np.float32(0))


def test_weights_of_their_own_for_each_step_are_refused(tmp_path: Path) -> None:
    """SGLFormer's head: a convolution over (positions, steps)."""
    nodes = [op("Transpose", "t", "r", perm=[1, 2, 3, 0]), op("Conv", "r k b", "c")]
    body = [*nodes, op("ReduceMean", "c zero", "out", keepdims=0)]
    found, fixed = timed((4, 6), body)
    fixed |= {"k": normal(4, 4, 6, 4), "b": normal(4)}
    with pytest.raises(NeurocompileError, match="NC1008 node 'n_c'.*each step"):
        imported(model(found, fixed, ("batch", 4, 6)), tmp_path)


def largest(second: list, by: str) -> list:
    """The largest of the spikes s1 and s2, the latter made by ``second`` of the currents c1."""
    return [
        op("Conv", "r k", "c1"),
        op("Reshape", "c1 cut", "d1"),
        lif("d1", "s1"),
        *second,
        op("Max", by, "m"),
        op("Reshape", "m rows", "mr"),
        op("Conv", "mr k", "c"),
    ]


OTHER = [op("Mul", "c1 minus", "c2"), op("Reshape", "c2 cut", "d2"), lif("d2", "s2")]


def test_the_largest_of_two_layers_spikes_is_any_of_them(tmp_path: Path) -> None:
    graph = net(
        largest(OTHER, "s1 s2"),
        (4, 4, 1, 1),
        (4, 6, 6),
        (4, 6, 6),
        tmp_path,
        minus=np.float32(-0.3),
        k=4 * normal(4, 4, 1, 1),
    )
    any_of = [n for n in canonicalize(graph).nodes if isinstance(n, s.Or)]
    assert len(any_of) == 1 and len(graph.spiking_layers) == 4
    same = net(
        largest([], "s1 zero_f"),
        (4, 4, 1, 1),
        (4, 6, 6),
        (4, 6, 6),
        tmp_path,
        zero_f=np.float32(0),
        k=4 * normal(4, 4, 1, 1, seed=2),
    )
    assert len(same.spiking_layers) == 2  # nothing is below 0


def test_the_largest_of_numbers_of_spikes(tmp_path: Path) -> None:
    nodes = [*OTHER, op("Add", "s1 s2", "sum")]
    graph = net(
        largest(nodes, "s1 sum"),
        (4, 4, 1, 1),
        (4, 6, 6),
        (4, 6, 6),
        tmp_path,
        minus=np.float32(-0.3),
        k=4 * normal(4, 4, 1, 1),
    )
    assert len(graph.spiking_layers) == 3  # no neuron for the largest
