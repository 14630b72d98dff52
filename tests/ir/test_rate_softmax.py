"""The quantized softmax against its sentence: equal scores take turns in the order of a bit reversal."""

from __future__ import annotations

import numpy as np
import pytest

from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import evaluate_node
from neurocompile.ir.text import Ref, TensorRef

TURNS = (1, 17, 9, 25, 5, 21, 13, 29, 3, 19, 11, 27, 7, 23, 15, 31)


@pytest.mark.parametrize("n", [1, 5, 16])
@pytest.mark.parametrize("shift", [0, 1])
def test_spikes_of_a_softmax_are_those_of_its_formula(n: int, shift: int) -> None:
    x, span, grid = np.random.default_rng(n).integers(0, 12, (3, n)), 8, [1, 3, 4]
    node = s.RateSoftmax(name="y", x=Ref("x"), thresholds=TensorRef("t"), span=span, shift=shift)
    for row in x:
        counts = [
            sum(max(int(v) - int(row.max()) + span, 0) >> shift >= g for g in grid) for v in row
        ]
        start = [a * sum(counts) >> 5 for a in TURNS[:n]]
        spikes = [(c + o) // sum(counts) - o // sum(counts) for c, o in zip(counts, start)]
        assert evaluate_node(node, [row], [np.array(grid, np.int32)]).tolist() == spikes
