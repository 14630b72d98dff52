"""The evaluation on torch, with and without the Triton kernels (interpreted, without a GPU), equals
the definition at every value, sample and step."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spiking_cases import Maker, networks, on_frames, samples

pytest.importorskip("torch")
KERNELS = [False]
if find_spec("triton") is not None and not os.environ.get("NEUROCOMPILE_NO_TRITON"):
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when the kernels are defined
    import neurocompile.gpu.kernels  # noqa: F401

    KERNELS.append(True)

from neurocompile.errors import NeurocompileError  # noqa: E402
from neurocompile.gpu import Evaluator  # noqa: E402
from neurocompile.ir import spiking as s  # noqa: E402
from neurocompile.ir.evaluate import evaluate  # noqa: E402
from neurocompile.ir.text import Ref, TensorRef  # noqa: E402


class Drawn:
    """Stands for a hypothesis draw where a graph is built by hand: the first choice of all."""

    def __call__(self, strategy: object) -> int:
        return 0


def maker(shape: tuple[int, ...], low: int = -3, high: int = 15) -> Maker:
    """A Maker without choices."""
    return Maker(Drawn(), shape, low, high)


def finished(m: Maker, x: str) -> s.SpikingGraph:
    """With a readout behind ``x``."""
    if len(m.shape(x)) != 1:
        x = m.flat(x)
    m.add(s.Output, x=m.add(s.TimeMean, x=x), unit=0.3)
    return m.graph()


def assert_exact(graph: s.SpikingGraph, steps: int, kernels: bool, count: int = 2) -> None:
    """Every value, the logits and the numbers of spikes."""
    x = samples(graph, count).astype(np.int32)
    expected = evaluate(graph, x, steps)
    evaluator = Evaluator(graph, steps, "cpu", kernels=kernels)
    found, totals = evaluator.evaluate(x), evaluator.run(x)
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    np.testing.assert_array_equal(totals.logits, expected[graph.output.name])
    for node in graph.spiking_layers:
        assert totals.spikes[node.name] == expected[node.name].sum(), node.name
        assert totals.neuron_steps[node.name] == expected[node.name].size


@pytest.mark.parametrize("kernels", KERNELS)
def test_networks(kernels: bool) -> None:
    @settings(deadline=None, max_examples=5)
    @given(networks(), st.integers(1, 4), st.booleans())
    def law(graph: s.SpikingGraph, steps: int, frames: bool) -> None:
        assert_exact(on_frames(graph, steps) if frames else graph, steps, kernels)

    law()


def tokens() -> s.SpikingGraph:
    """Linear layers over (tokens, channels), and over three axes, with thresholds a token."""
    m = maker((5, 7))
    x = m.add(s.Linear, x=m.x, weight=m.tensor(2 * m.rng.integers(-9, 10, (12, 7))))
    x = m.add(s.IntegerLIF, x=x, vth=30, dv=2048, bias=m.tensor(m.rng.integers(-9, 9, 12)))
    y = m.add(s.Linear, x=x, weight=m.tensor(2 * m.rng.integers(-9, 10, (12, 12))), exponent=1)
    limits = m.tensor(m.rng.integers(0, 40, (5, 1)), np.int32)
    y = m.add(s.IntegerLIF, x=y, vth=limits, dv=1000)
    z = m.rearrange(y, (5, 3, 4), (1, 0, 2), (3, 5, 4))
    z = m.add(s.Linear, x=z, weight=m.tensor(2 * m.rng.integers(-9, 10, (6, 4))))
    z = m.add(
        s.IntegerLIF, x=z, vth=9, dv=0, bias=m.tensor(m.rng.integers(-9, 9, (1, 1, 6))), gain=3
    )
    return finished(m, z)


def currents() -> s.SpikingGraph:
    """Synaptic currents, integrators and soft resets, one of which differs from channel to channel."""
    m = maker((2, 4, 4))
    weight = m.tensor(2 * m.rng.integers(-9, 10, (3, 2, 3, 3)))
    x = m.add(s.Conv2d, x=m.x, weight=weight, dilation=(1, 2), padding=(1, 2))
    x = m.add(s.IntegerLIF, x=x, vth=200, dv=512, current=3000)
    y = m.add(s.IntegerIntegrator, x=m.add(s.Add, a=x, b=x), weight=100, largest=900)
    y = m.add(s.SoftIntegerLIF, x=y, threshold=3, reset=2, decay=1024, gain=4, shift=1, more=(5, 9))
    own = [
        m.tensor(np.array([[[a]], [[b]], [[c]]]), np.int32) for a, b, c in ((2, 3, 5), (1, 2, 2))
    ]
    y = m.add(s.SoftIntegerLIF, x=y, threshold=own[0], reset=own[1], decay=2048)
    return finished(m, y)


def scores() -> s.SpikingGraph:
    """A softmax of rates."""
    m = maker((2, 6))
    x = m.add(s.Linear, x=m.x, weight=m.tensor(2 * m.rng.integers(-9, 10, (6, 6))))
    x = m.add(s.IntegerLIF, x=x, vth=30, dv=2048)
    x = m.add(s.TimeSum, x=x, steps=4)
    grid = m.tensor(np.arange(1, 5), np.int32)
    x = m.add(s.RateSoftmax, x=x, thresholds=grid, span=4)
    return finished(m, m.add(s.Mul, a=x, b=x))


def ranges_of(low: int, high: int, largest: int) -> s.SpikingGraph:
    """A convolution and a linear layer of operands up to ``largest``."""
    m = maker((3, 5, 5), low, high)
    weight = m.tensor(m.rng.integers(-largest, largest + 1, (4, 3, 3, 3)), np.int32)
    x = m.add(s.Conv2d, x=m.x, weight=weight, padding=(1, 1), stride=(2, 1))
    weight = m.tensor(m.rng.integers(-largest, largest + 1, (3, 5)), np.int32)
    return finished(m, m.add(s.Linear, x=x, weight=weight))


def pools() -> s.SpikingGraph:
    """Uneven borders, pools of graded values and of constants, depthwise and grouped convolutions."""
    m = maker((4, 7, 6))
    x = m.add(s.MaxPool2d, x=m.x, kernel=(3, 2), stride=(2, 2), padding=(1, 1), more=(1, -1))
    x = m.add(s.IntegerLIF, x=x, vth=9, dv=2048, gain=2)
    weight = m.tensor(2 * m.rng.integers(-9, 10, (8, 1, 2, 2)))
    y = m.add(s.Conv2d, x=x, weight=weight, groups=4)
    y = m.add(s.MaxPool2d, x=y, kernel=(2, 2), stride=(1, 1), padding=(1, 0))
    y = m.add(s.IntegerLIF, x=y, vth=m.tensor(m.rng.integers(0, 20, (8, 1, 1)), np.int32), dv=1)
    weight = m.tensor(2 * m.rng.integers(-9, 10, (6, 4, 1, 1)))
    y = m.add(s.Conv2d, x=y, weight=weight, groups=2, exponent=-1)
    y = m.add(s.SumPool2d, x=y, kernel=(2, 2), stride=(2, 1), padding=(1, 1), more=(0, -1))
    return finished(m, m.add(s.Shift, x=y, bits=2))


def feedback() -> s.SpikingGraph:
    """Spikes that feed back into their own layer, and neurons behind it."""
    m = maker((2, 3, 3))
    before = m.add(s.Previous, "n.before", of="n", shape=(4, 3, 3), levels=2)
    weight = m.tensor(2 * m.rng.integers(-9, 10, (4, 2, 3, 3)))
    current = m.add(s.Conv2d, x=m.x, weight=weight, padding=(1, 1))
    weight = m.tensor(2 * m.rng.integers(-9, 10, (4, 4, 1, 1)))
    back = m.add(s.Conv2d, x=before, weight=weight)
    total = m.add(s.Add, a=current, b=back)
    fields = {"threshold": 40, "more": (80,), "reset": 20, "decay": 2048}
    x = m.add(s.SoftIntegerLIF, "n", x=total, **fields)
    weight = m.tensor(2 * m.rng.integers(-9, 10, (3, 4, 1, 1)))
    x = m.add(s.Conv2d, x=x, weight=weight)
    return finished(m, m.add(s.IntegerLIF, x=x, vth=9, dv=100))


def wide() -> s.SpikingGraph:
    """More rows, channels and depth than one block of a product has."""
    m = maker((18, 5, 5), 0, 1)
    weight = m.tensor(2 * m.rng.integers(-40, 41, (130, 18, 3, 3)))
    x = m.add(s.Conv2d, x=m.x, weight=weight, padding=(1, 1))
    bias = m.tensor(m.rng.integers(-90, 90, (130, 1, 1)))
    x = m.add(s.IntegerLIF, x=x, vth=90, dv=2048, bias=bias, bias_exp=3)
    weight = m.tensor(2 * m.rng.integers(-40, 41, (9, 130, 1, 1)))
    x = m.add(s.Conv2d, x=x, weight=weight, stride=(2, 2))
    return finished(m, m.add(s.IntegerLIF, x=x, vth=90, dv=100))


GRAPHS = {
    "tokens": tokens,
    "currents": currents,
    "scores": scores,
    "int8": lambda: ranges_of(-127, 100, 127),
    "half": lambda: ranges_of(-2000, 2000, 200),
    "single": lambda: ranges_of(0, 4095, 60),
    "double": lambda: ranges_of(0, 4095, 4095),
    "pools": pools,
    "feedback": feedback,
    "wide": wide,
}


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("kind", GRAPHS)
def test_kinds(kind: str, kernels: bool) -> None:
    assert_exact(GRAPHS[kind](), 4 if kind == "scores" else 3, kernels, 3 if kind == "wide" else 2)


def test_every_kind_of_the_quantized_graph_has_a_rule() -> None:
    from neurocompile.gpu.nodes import RULES

    quantized = {kind for kind in s.KINDS.values() if "quantized" in kind.stages}
    ends = {s.Input, s.Previous, s.TimeMean, s.Output}  # the runner's own
    assert RULES.entries.keys() == quantized - ends


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("given", ["steps", "constant"])
def test_a_delay_is_the_definitions(steps: int, given: str) -> None:
    import torch

    from neurocompile.gpu.nodes import RULES, Rules
    from neurocompile.gpu.plan import Plan
    from neurocompile.ir.evaluate import DEFINITIONS

    node = s.Delay(name="d", x=Ref("x"))
    x = np.arange(2 * (steps if given == "steps" else 1) * 5).reshape(2, -1, 5)
    rules = Rules(Plan.of(tokens(), steps), torch.device("cpu"))
    found = RULES.of(node)(rules, node, torch.from_numpy(x).transpose(0, 1))
    meant = DEFINITIONS.of(node)(node, [x], [], steps)
    assert np.array_equal(found.transpose(0, 1).numpy(), meant)


@pytest.mark.parametrize("kernels", KERNELS)
def test_batches_do_not_matter(kernels: bool) -> None:
    graph = wide()
    x = samples(graph, 3).astype(np.int32)
    whole = Evaluator(graph, 2, "cpu", kernels=kernels).run(x)
    parts = Evaluator(graph, 2, "cpu", kernels=kernels, batch=2).run(x)
    np.testing.assert_array_equal(whole.logits, parts.logits)
    assert whole.spikes == parts.spikes


def test_the_number_of_devices_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    graph = tokens()
    x = samples(graph, 7).astype(np.int32)
    expected = Evaluator(graph, 3, "torch-cpu").evaluate(x)
    three = [torch.device("cpu")] * 3
    monkeypatch.setattr("neurocompile.gpu.evaluator.torch_devices", lambda device: three)
    found = Evaluator(graph, 3, "cuda", batch=2).evaluate(x)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def spikes_last() -> s.SpikingGraph:
    """Neurons are what is read out, and their mean over the steps."""
    m = maker((7,))
    x = m.add(s.Linear, x=m.x, weight=m.tensor(2 * m.rng.integers(-9, 10, (5, 7))))
    return finished(m, m.add(s.IntegerLIF, x=x, vth=30, dv=2048))


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_readout_of_spikes(kernels: bool) -> None:
    assert_exact(spikes_last(), 3, kernels)


def test_batches_are_halved_where_memory_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    graph, most = tokens(), 3
    x = samples(graph, 7).astype(np.int32)
    x.flags.writeable = False
    expected = Evaluator(graph, 3, "torch-cpu").run(x)
    evaluator = Evaluator(graph, 3, "torch-cpu")
    (runner,) = evaluator._runners
    run = runner.run

    def scarce(part: np.ndarray, *rest: object) -> object:
        if len(part) > most:
            raise torch.OutOfMemoryError
        return run(part, *rest)

    monkeypatch.setattr(runner, "run", scarce)
    found = evaluator.run(x)
    np.testing.assert_array_equal(found.logits, expected.logits)
    assert found.spikes == expected.spikes
    most = 0
    with pytest.raises(NeurocompileError, match="NC4010 one sample does not fit .* of cpu"):
        evaluator.run(x)


def test_sums_beyond_every_type_are_refused() -> None:
    graph = ranges_of(0, 1 << 30, 4095)
    (node,) = (n for n in graph.nodes if isinstance(n, s.Linear))
    huge = replace(node, weight=TensorRef("huge"))
    tensors = {**graph.tensors, "huge": np.full((3, 5), (1 << 30) - 1, np.int64)}
    graph = graph.replace(
        nodes=tuple(huge if n is node else n for n in graph.nodes), tensors=tensors
    )
    with pytest.raises(NeurocompileError, match=r"NC4008 'linear.*': sums reach .* 2\^53"):
        Evaluator(graph, 1, "cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "", None, 0, "cpu:0"])
def test_unknown_devices(device: object) -> None:
    with pytest.raises(NeurocompileError, match="NC1015 device is"):
        Evaluator(tokens(), 1, device)  # type: ignore[arg-type]


def test_a_gpu_that_is_not_there() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(NeurocompileError, match="NC4007 `device='cuda'`, but torch finds no CUDA"):
        Evaluator(tokens(), 1, "cuda")
