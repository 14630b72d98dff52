"""QKFormers trained on digits for the ablation: one for each number of heads, leak or threshold and
each seed, in processes.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from neurocompile.errors import NeurocompileError
from neurocompile.progress import Stages
from neurocompile.theory.measure.subject import open_subject
from neurocompile.theory.measure.sweep import run_at

__all__ = ["Setting", "Trained", "can_train", "spread", "train_all"]

_NEEDED = ("torch", "spikingjelly", "sklearn", "onnxscript")


@dataclass(frozen=True)
class Setting:
    """What is trained: the shipped model's own where nothing is said."""

    heads: int = 4
    beta: float = 0.5
    """What a membrane keeps in a step."""
    threshold: float = 1.0


@dataclass(frozen=True)
class Trained:
    """One training, compiled, on the held-out images."""

    setting: Setting
    seed: int
    accuracy: float
    spikes: float
    """An inference."""


def can_train() -> None:
    """NC8010 where a package is missing."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise NeurocompileError(
            "NC8010",
            f"training needs {', '.join(missing)}: pip install 'neurocompile[torch]' scikit-learn, or `train=False`",
        )


def train_all(
    settings: Sequence[Setting], seeds: int, epochs: int, jobs: int, progress: bool = False
) -> dict[Setting, list[Trained]]:
    """Each of ``settings`` with seeds 0, 1, ..., in ``jobs`` processes."""
    wanted = list(product(dict.fromkeys(settings), range(seeds)))
    found: dict[tuple[Setting, int], Trained] = {}
    with Stages(progress)("training"):
        for one in _run(wanted, epochs, jobs):
            found[one.setting, one.seed] = one
    return {s: [found[s, k] for k in range(seeds)] for s, _ in wanted}


def _run(wanted: Sequence[tuple[Setting, int]], epochs: int, jobs: int) -> Iterator[Trained]:
    if jobs == 1:
        for setting, seed in wanted:
            yield train_one(setting, seed, epochs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(wanted)), mp_context=context) as pool:
        for done in as_completed([pool.submit(train_one, s, k, epochs) for s, k in wanted]):
            yield done.result()


def train_one(setting: Setting, seed: int, epochs: int) -> Trained:
    """One training: the same numbers on the same machine, whatever else is trained."""
    from neurocompile.frontends.torch.export import export_onnx
    from neurocompile.models.qkformer import QKFormerConfig
    from neurocompile.models.zoo.qkformer_digits.train import CALIBRATION_SAMPLES, load_split, train

    def change(model: Any) -> None:
        from spikingjelly.activation_based.neuron import LIFNode

        for module in model.modules():
            if isinstance(module, LIFNode):
                module.tau = 1 / (1 - setting.beta)
                module.v_threshold = module.v_threshold * setting.threshold

    x_train, y_train, x_test, y_test = load_split()
    config = QKFormerConfig(embed_dim=32, num_heads=setting.heads, mlp_ratio=2, T=4)
    model = train(x_train, y_train, config, epochs, seed, change)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(model, x_test[:2], path, calibration=x_train[:CALIBRATION_SAMPLES])
        run = run_at(open_subject(path), x_test, 4)
    accuracy = float((run.logits.argmax(axis=1) == y_test).mean())
    return Trained(setting, seed, accuracy, run.total)


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and standard deviation of the sample (0 of one)."""
    return mean(values), stdev(values) if len(values) > 1 else 0.0
