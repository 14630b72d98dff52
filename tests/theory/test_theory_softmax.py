"""The theory's commands on a network with a softmax, whose values are real and whose steps are phases."""

from __future__ import annotations

import numpy as np

from neurocompile.ir import spiking as s
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.theory.lipschitz import lipschitz_bound


def test_a_softmax_of_linear_scores_has_half_their_gain() -> None:
    weight = np.diag([3.0, 1.0, 2.0])
    nodes = (
        s.Input(name="x", shape=(3,)), s.Linear(name="w", x=Ref("x"), weight=TensorRef("w")),
        s.Softmax(name="p", x=Ref("w"), gain=4.0), s.TimeMean(name="m", x=Ref("p")), s.Output(name="o", x=Ref("m")),
    )  # fmt: skip
    graph = s.SpikingGraph("g", "canonical", nodes, {"w": weight})
    bound = lipschitz_bound(graph).value
    assert np.isclose(bound, 3.0 * 4.0 / 2)
    rng = np.random.default_rng(0)

    def value(x: np.ndarray) -> np.ndarray:
        e = np.exp(4.0 * (weight @ x))
        return e / e.sum()

    for _ in range(200):
        x, step = rng.normal(0, 0.3, 3), 1e-4 * rng.normal(size=3)
        assert np.linalg.norm(value(x + step) - value(x)) <= bound * np.linalg.norm(step) * (1 + 1e-3)
