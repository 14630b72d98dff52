"""Imported models have the spikes and logits that onnxruntime computes from the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_cases import ZOO, imported, ints, lif, mlp, model, normal, op, timed

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.agreement import check_import
from neurocompile.frontends.door import open_model
from neurocompile.frontends.onnx.reference import run_onnx
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import evaluate


def check(proto: onnx.ModelProto, folder: Path, batch: int = 3) -> s.SpikingGraph:
    """The imported graph, after comparing all its spikes and logits with onnxruntime's."""
    loaded, found = imported(proto, folder)
    graph = found.graph
    x = np.random.default_rng(0).uniform(0, 2, (batch, *graph.input.shape)).astype(np.float32)
    reference = run_onnx(loaded, found, x)
    ours = evaluate(graph, x, graph.exported_T)
    assert set(reference.layers) == {n.name for n in graph.spiking_layers}
    for name, spikes in reference.layers.items():
        np.testing.assert_array_equal(ours[name].reshape(spikes.shape), spikes, err_msg=name)
        assert 0.02 < spikes.mean() < 0.98, name
    logits = ours[graph.output.name]
    np.testing.assert_allclose(logits, reference.logits.reshape(logits.shape), rtol=1e-4, atol=1e-5)
    return graph


def vision(batch: int | str, steps: int = 4) -> onnx.ModelProto:
    """Expand over time, conv, norm, LIF, pool, attention with two heads, a linear layer with bias,
    a head by Gemm.
    """
    b = -1 if isinstance(batch, str) else batch
    nodes = [
        op("Unsqueeze", "x zero", "x1"),
        op("Shape", "x", "dims"),
        op("Concat", "steps dims", "wanted", axis=0),
        op("Expand", "x1 wanted", "t"),
        op("Reshape", "t merged", "t2"),
        op("Conv", "t2 k", "c", pads=[1, 1, 1, 1]),
        op("BatchNormalization", "c scale shift mean var", "bn", epsilon=1e-3),
        op("Reshape", "bn cut", "c5"),
        lif("c5", "l1"),
        op("Reshape", "l1 merge4", "m4"),
        op("MaxPool", "m4", "p", kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1]),
        op("Reshape", "p tokens", "tk"),
        op("Transpose", "tk", "tn", perm=[0, 1, 3, 2]),  # (T, B, N, C)
        op("Reshape", "tn split", "hs"),
        op("Transpose", "hs", "q", perm=[0, 1, 3, 2, 4]),  # (T, B, h, N, c)
        op("Transpose", "q", "kt", perm=[0, 1, 2, 4, 3]),
        op("MatMul", "q kt", "qk"),
        op("MatMul", "qk q", "qkv"),
        op("Mul", "qkv quarter", "sc"),
        lif("sc", "att", v_threshold=0.75),
        op("Transpose", "att", "a2", perm=[0, 1, 3, 2, 4]),
        op("Reshape", "a2 join", "a3"),
        op("Add", "a3 tn", "res"),
        op("MatMul", "res w", "fc0"),
        op("Add", "wb fc0", "fc"),
        lif("fc", "l2", v_reset=-0.25, decay_input=0),
        op("ReduceMean", "l2 two", "mn", keepdims=0),
        op("ReduceMean", "mn zero", "mt", keepdims=0),
        op("Gemm", "mt g gb", "out", transB=1),
    ]
    constants = {
        "zero": ints(0),
        "two": ints(2),
        "steps": ints(steps),
        "merged": ints(-1, 1, 6, 6),
        "cut": ints(steps, b, 4, 6, 6),
        "merge4": ints(-1, 4, 6, 6),
        "tokens": ints(steps, b, 4, 16),
        "split": ints(steps, b, 16, 2, 2),
        "join": ints(steps, b, 16, 4),
        "k": normal(4, 1, 3, 3),
        "scale": normal(4) ** 2,
        "shift": normal(4, seed=1),
        "mean": normal(4, seed=2),
        "var": normal(4, seed=3) ** 2,
        "quarter": np.array(0.25, np.float32),
        "w": normal(4, 4, seed=4),
        "wb": normal(4, seed=5),
        "g": normal(3, 4, seed=6),
        "gb": normal(3, seed=7),
    }
    return model(nodes, constants, (batch, 1, 6, 6))


@pytest.mark.parametrize("batch", ["batch", 3, 2])
def test_a_spiking_transformer_with_dynamic_or_fixed_batch(
    batch: int | str, tmp_path: Path
) -> None:
    graph = check(vision(batch), tmp_path)
    kinds = [type(n).__name__ for n in graph.nodes]
    assert graph.exported_T == 4 and graph.stage == "imported"
    assert {
        "Conv2d",
        "BatchNorm",
        "MaxPool2d",
        "MatMul",
        "Scale",
        "Add",
        "Linear",
        "TimeMean",
    } <= set(kinds)
    assert graph.node["l1"].x == "n_bn" and graph.node["n_fc0"].bias is not None


def test_another_number_of_steps_in_the_file(tmp_path: Path) -> None:
    assert check(vision("batch", steps=7), tmp_path).exported_T == 7


def test_gemm_takes_alpha_beta_both_orders_and_a_bias_of_a_row(tmp_path: Path) -> None:
    tail = [
        op("ReduceMean", "l zero", "m", keepdims=0),
        op("Gemm", "m v b2", "g1", alpha=0.5, beta=2.0, transB=1),
        op("Gemm", "g1 v", "out", alpha=3.0),
    ]
    graph = check(mlp([op("MatMul", "t w", "f"), lif("f", "l")], tail, b2=normal(1, 5)), tmp_path)
    assert sum(isinstance(n, s.Linear) for n in graph.nodes) == 3


def test_two_layers_that_share_a_weight_keep_their_own_biases(tmp_path: Path) -> None:
    nodes = [
        op("MatMul", "t w", "f1"),
        op("Add", "f1 b", "f2"),
        lif("f2", "l1"),
        op("MatMul", "t w", "f3"),
        op("Add", "f3 c", "f4"),
        lif("f4", "l2"),
        op("Add", "l1 l2", "l"),
    ]
    graph = check(mlp(nodes, c=normal(5, seed=9)), tmp_path)
    assert graph.node["n_f1"].weight == graph.node["n_f3"].weight
    assert graph.node["n_f1"].bias != graph.node["n_f3"].bias


def test_biases_added_after_other_products_find_their_layer(tmp_path: Path) -> None:
    nodes = [
        op("MatMul", "t w", "f1"),
        op("MatMul", "t w2", "f3"),
        op("Add", "f1 b", "f2"),
        op("Add", "f3 c", "f4"),
        lif("f2", "l1"),
        lif("f4", "l2"),
        op("Add", "l1 l2", "l"),
    ]
    check(mlp(nodes, c=normal(5, seed=9), w2=normal(4, 5, seed=8)), tmp_path)


@pytest.mark.parametrize(
    "nodes",
    [
        # the product is read without its bias too
        [
            op("MatMul", "t w", "f"),
            op("Add", "f b", "fb"),
            lif("fb", "l1"),
            lif("f", "l2"),
            op("Add", "l1 l2", "l"),
        ],
        # a column is no bias of the last axis
        [
            op("MatMul", "t w", "f"),
            op("Transpose", "f", "ft", perm=[0, 2, 1]),
            op("Add", "ft col", "g"),
            op("Transpose", "g", "gt", perm=[0, 2, 1]),
            lif("gt", "l"),
        ],
        [op("Add", "t b4", "f"), op("MatMul", "f w", "g"), lif("g", "l")],
        [op("Mul", "t b4", "f"), op("MatMul", "f w", "g"), lif("g", "l")],
    ],
)
def test_a_constant_that_is_no_bias_scales_or_shifts_channels(
    nodes: list[onnx.NodeProto], tmp_path: Path
) -> None:
    graph = check(mlp(nodes, col=normal(5, 1), b4=normal(4, seed=5) + 1), tmp_path)
    assert sum(isinstance(n, s.BatchNorm) for n in graph.nodes) == 1 or graph.node["n_f"].bias


def test_a_constant_with_more_positions_than_the_signal_is_refused(tmp_path: Path) -> None:
    nodes = [
        op("Unsqueeze", "t one", "u"),
        op("Add", "u grid", "f"),
        op("MatMul", "f w", "g"),
        lif("g", "l"),
    ]
    with pytest.raises(NeurocompileError, match=r"NC1009 node 'n_f'.*a constant of shape \[3, 4\]"):
        imported(mlp(nodes, grid=normal(3, 4), one=ints(2)), tmp_path)


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_constant_for_each_position(kind: str, swapped: bool, tmp_path: Path) -> None:
    if kind == "Div" and swapped:
        return
    nodes = [
        op("Reshape", "t cut", "u"),
        op(kind, "grid u" if swapped else "u grid", "f"),
        op("MatMul", "f w2", "g"),
        lif("g", "l"),
    ]
    tensors = {"grid": normal(2, 2), "cut": ints(4, -1, 2, 2), "w2": normal(2, 5)}
    check(mlp(nodes, **tensors), tmp_path)


def test_a_constant_that_differs_between_steps_or_samples_is_refused(tmp_path: Path) -> None:
    for shape, kinds in ((4, 1, 4), "steps"), ((1, 2, 4), "samples|do not broadcast"):
        nodes = [op("Add", "t grid", "f"), op("MatMul", "f w", "g"), lif("g", "l")]
        with pytest.raises(NeurocompileError, match=rf"node 'n_f'.*({kinds})"):
            imported(mlp(nodes, grid=normal(*shape)), tmp_path)
    nodes = [op("Add", "t grid", "f"), op("MatMul", "f w", "g"), lif("g", "l")]
    check(mlp(nodes, grid=np.repeat(normal(1, 1, 4), 4, 0)), tmp_path)


def test_flatten_counts_axes_from_both_ends(tmp_path: Path) -> None:
    for axis in (2, -1):
        nodes = [
            op("Flatten", "t", "f", axis=axis),
            op("MatMul", "f w", "g"),
            op("Reshape", "g back", "r"),
            lif("r", "l"),
        ]
        check(mlp(nodes, back=ints(4, -1, 5)), tmp_path)


def test_a_value_without_time_joins_one_with_time(tmp_path: Path) -> None:
    for kind in ("Add", "Mul"):
        nodes = [lif("t", "l0"), op(kind, "x1 l0", "s"), op("MatMul", "s w", "f"), lif("f", "l")]
        check(mlp(nodes), tmp_path)
        nodes = [lif("t", "l0"), op(kind, "l0 x", "s"), op("MatMul", "s w", "f"), lif("f", "l")]
        check(mlp(nodes), tmp_path)


def test_pooling_over_all_positions_scaling_and_squeezing(tmp_path: Path) -> None:
    nodes, fixed = timed(
        (3, 4, 4),
        [
            op("Mul", "half t", "h"),
            op("Div", "h third", "d"),
            lif("d", "l"),
            op("Reshape", "l four", "r"),
            op("GlobalAveragePool", "r", "p"),
            op("Squeeze", "p last", "sq"),
            op("Reshape", "sq back", "b"),
            op("ReduceSum", "b two", "rs", keepdims=1),
            op("Mul", "rs b", "prod"),
            op("ReduceMean", "prod zero", "out", keepdims=0),
        ],
    )
    constants = {
        "half": np.array([0.5], np.float32),
        "third": np.array(0.75, np.float32),
        "four": ints(-1, 3, 4, 4),
        "last": ints(-1, -2),
        "back": ints(4, -1, 3),
        "two": ints(2),
    }
    graph = check(model(nodes, {**fixed, **constants}, ("batch", 3, 4, 4)), tmp_path)
    assert sum(isinstance(n, s.Sum) for n in graph.nodes) == 2


def test_strides_groups_dilation_and_biases_of_convolutions(tmp_path: Path) -> None:
    nodes = [
        op("Conv", "x k kb", "c", strides=[2, 1], pads=[1, 2, 1, 2], dilations=[1, 2], group=2),
        op("Unsqueeze", "c zero", "u"),
        op("Tile", "u repeats", "t"),
        lif("t", "l"),
        op("ReduceMean", "l zero", "m", keepdims=0),
        op("Flatten", "m", "out"),
    ]
    constants = {
        "k": normal(4, 1, 3, 3),
        "kb": normal(4),
        "zero": ints(0),
        "repeats": ints(4, 1, 1, 1, 1),
    }
    check(model(nodes, constants, ("batch", 2, 6, 6)), tmp_path)


def test_names_that_clean_to_the_same_text_stay_apart(tmp_path: Path) -> None:
    first, second = op("MatMul", "t w", "f"), op("MatMul", "l0 w", "g")
    first.input[1], second.input[1] = "w (1)", "w [1]"
    proto = mlp(
        [first, lif("f", "l0"), second, lif("g", "l")],
        **{"w (1)": normal(4, 5), "w [1]": normal(5, 5, seed=1)},
    )
    graph = check(proto, tmp_path)
    assert graph.node["n_f"].weight != graph.node["n_g"].weight


def test_the_model_of_the_zoo_imports_without_a_different_spike() -> None:
    assert check_import(open_model(ZOO)) == 1.0
    samples = np.load(ZOO.with_name("test.npz"))["x"][:4]
    assert check_import(open_model(ZOO, calibration=samples)) == 1.0


def test_pieces_and_means_over_windows_are_imported(tmp_path: Path) -> None:
    """torch's chunk (Split), a Slice, and AveragePool with a border that counts."""
    nodes, fixed = timed(
        (2, 5, 5),
        [
            op("Reshape", "t merged", "t2"),
            op("Conv", "t2 k", "c"),
            op(
                "AveragePool",
                "c",
                "a",
                kernel_shape=[2, 2],
                strides=[2, 2],
                pads=[1, 1, 1, 1],
                count_include_pad=1,
            ),
            op("AveragePool", "a", "a2", kernel_shape=[2, 1], strides=[1, 1]),
            op("Reshape", "a2 five", "c5"),
            onnx.helper.make_node("Split", ["c5"], ["p", "q"], axis=2, num_outputs=2),
            lif("p", "l1"),
            lif("q", "l2"),
            op("Add", "l1 l2", "s"),
            op("Slice", "s one three channel", "part"),
            op("ReduceMean", "part space", "m", keepdims=0),
            op("ReduceMean", "m zero", "out", keepdims=0),
        ],
    )
    constants = {
        "merged": ints(-1, 2, 5, 5),
        "k": 2 * normal(6, 2, 1, 1),
        "five": ints(4, -1, 6, 2, 3),
        "one": ints(1),
        "three": ints(3),
        "channel": ints(2),
        "space": ints(3, 4),
    }
    graph = check(model(nodes, {**fixed, **constants}, ("batch", 2, 5, 5)), tmp_path)
    assert sum(isinstance(n, s.SumPool2d) for n in graph.nodes) == 2


def test_a_matrix_on_the_left_of_a_product(tmp_path: Path) -> None:
    nodes = [
        op("Reshape", "t cut", "u"),
        op("MatMul", "mix u", "f"),
        op("Reshape", "f flat", "g"),
        op("MatMul", "g six", "mixed"),
        lif("mixed", "l"),
    ]
    tensors = {"mix": normal(3, 2), "cut": ints(4, -1, 2, 2), "flat": ints(4, -1, 6)}
    tensors["six"] = 4 * np.abs(normal(6, 5))
    check(mlp(nodes, **tensors), tmp_path)


def test_gemm_over_tokens_and_samples_in_one_axis(tmp_path: Path) -> None:
    """(T B N, C), as TorchScript writes a Linear over tokens."""
    nodes = [
        op("Reshape", "t rows", "r"),
        op("Gemm", "r w2 b5", "g"),
        op("Reshape", "g back", "f"),
        lif("f", "l"),
    ]
    tensors = {"rows": ints(-1, 2), "back": ints(4, -1, 2, 5), "w2": normal(2, 5), "b5": normal(5)}
    check(mlp(nodes, **tensors), tmp_path)
