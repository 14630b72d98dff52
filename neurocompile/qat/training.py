"""A training loop for :class:`~neurocompile.qat.model.TrainableModel`: a few epochs that let the
rounded model find back to what the unrounded one says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurocompile.arrays import ArrayLike
from neurocompile.data import check_inputs, check_labels, load_samples
from neurocompile.errors import NeurocompileError, not_importable
from neurocompile.guard import guarded
from neurocompile.options import BuildOptions, GivenOptions, takes_options

try:
    import torch
    from torch.nn import functional as F
except ImportError as error:
    raise not_importable("fine-tuning a model", error, "torch") from error

from neurocompile.qat.model import TrainableModel, prepare  # noqa: E402

if TYPE_CHECKING:
    from torch import nn
    from typing_extensions import Unpack

__all__ = ["Finetuned", "Recipe", "finetune", "logits_of", "train"]

_CALIBRATION = 512
"""Samples whose statistics decide the grids."""
_BATCH = 64


@dataclass(frozen=True)
class Recipe:
    """How :func:`train` trains."""

    epochs: int = 10
    learning_rate: float = 5e-4
    """The highest, of Adam; half a cosine to 0."""
    batch: int = 64
    seed: int = 0
    distillation: float = 0.5
    """Share of the unrounded model's logits in the loss where there are labels; all without."""
    temperature: float = 2.0
    clip: float = 1.0
    """Largest norm of the gradient."""


@dataclass(frozen=True)
class Finetuned:
    """A trained model and what it does to the training samples."""

    model: TrainableModel
    """In eval mode, on the CPU."""
    losses: tuple[float, ...]
    """Mean of each epoch."""


def logits_of(model: TrainableModel, x: np.ndarray, rounding: bool = True) -> np.ndarray:
    """Logits float32 (samples, classes) in eval mode, of rounded weights or of those in training."""
    device, before, mode = next(model.parameters()).device, model.rounding, model.training
    model.rounding = rounding
    model.eval()
    with torch.no_grad():
        found = [model(part.to(device)).cpu() for part in torch.from_numpy(x).split(_BATCH)]
    model.rounding = before
    model.train(mode)
    return torch.cat(found).numpy()


def train(
    model: TrainableModel,
    x: np.ndarray,
    y: np.ndarray | None,
    recipe: Recipe,
    said: Callable[[str], None] | None = None,
) -> tuple[float, ...]:
    """Train ``model`` in place, on the device it is on; the same call on the same CPU gives the
    same weights.

    Args:
        x: float32 (samples, ...).
        y: classes (samples,), or None to learn from the unrounded model alone.
        said: takes a line an epoch.

    Returns:
        The mean loss of each epoch.
    """
    device = next(model.parameters()).device
    soft = torch.from_numpy(logits_of(model, x, rounding=False)).to(device)
    images, share = torch.from_numpy(x).to(device), recipe.distillation if y is not None else 1.0
    labels = None if y is None else torch.from_numpy(y).to(device)
    generator = torch.Generator().manual_seed(recipe.seed)
    optimizer = torch.optim.Adam(model.parameters(), recipe.learning_rate)
    batches = math.ceil(len(x) / recipe.batch)
    total, step, losses = recipe.epochs * batches, 0, []
    model.train()
    for epoch in range(recipe.epochs):
        order, loss_sum = torch.randperm(len(x), generator=generator), 0.0
        for index in order.to(device).split(recipe.batch):
            rate = recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * step / total))
            for group in optimizer.param_groups:
                group["lr"] = rate
            logits = model(images[index])
            loss = share * _divergence(logits, soft[index], recipe.temperature)
            if labels is not None:
                loss = loss + (1 - share) * F.cross_entropy(logits, labels[index])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            loss_sum, step = loss_sum + float(loss.detach()), step + 1
        losses.append(loss_sum / batches)
        if not math.isfinite(losses[-1]):
            raise NeurocompileError(
                "NC1023",
                f"the loss of epoch {epoch + 1} is {losses[-1]}: lower the learning rate, {recipe.learning_rate:g}",
            )
        if said is not None:
            said(f"epoch {epoch + 1} of {recipe.epochs}: loss {losses[-1]:.4f}")
    return tuple(losses)


def _divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """``temperature^2 KL(teacher || student)``, mean over the batch (Hinton et al. 2015,
    arXiv:1503.02531).
    """
    given, wanted = (F.log_softmax(v / temperature, -1) for v in (student, teacher))
    return F.kl_div(given, wanted, reduction="batchmean", log_target=True) * temperature**2


@guarded
@takes_options
def finetune(
    model: str | Path | nn.Module,
    example_input: ArrayLike | None = None,
    *,
    data: np.ndarray | str | Path,
    labels: np.ndarray | None = None,
    bits: int = 4,
    epochs: int = Recipe.epochs,
    learning_rate: float = Recipe.learning_rate,
    batch: int = Recipe.batch,
    device: str = "cpu",
    progress: Callable[[str], None] | None = None,
    options: BuildOptions | None = None,
    **given: Unpack[GivenOptions],
) -> Finetuned:
    """Train ``model`` further with its weights rounded to ``bits``, as the compiler rounds them.

    Args:
        model, example_input, options: as :func:`neurocompile.compile` takes them; ``seed`` also
            orders the samples.
        data: float32 (samples, *input shape), or an .npz file of them as ``x`` and, if it has
            them, of classes as ``y``. Its first 512 samples calibrate.
        labels: (samples,) integers; without them the unrounded model is the only teacher.
        epochs, learning_rate, batch: of Adam with half a cosine.
        device: torch's name of one.
        progress: takes a line an epoch.

    Raises:
        NeurocompileError: NC1015 (a number out of range), NC1022 (no gradient), NC1023 (training
            diverges), NC4007 (no such device), and what importing and data raise.
    """
    asked = BuildOptions.of(options, given)
    recipe = _recipe(epochs, learning_rate, batch, asked.seed)
    x, y = _samples(data, labels, model, example_input)
    made = prepare(model, example_input, bits=bits, calibration=x[:_CALIBRATION], options=asked)
    x = check_inputs(x, made.graph.input.sample_shape, "data 'x'")
    made = made.to(_device(device))
    losses = train(made, x, y, recipe, progress)
    return Finetuned(made.to("cpu").eval(), losses)


def _recipe(epochs: Any, learning_rate: Any, batch: Any, seed: Any) -> Recipe:
    for name, value, low in (("epochs", epochs, 1), ("batch", batch, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise NeurocompileError(
                "NC1015", f"{name} is {value!r}; an integer from {low} is needed"
            )
    if not isinstance(learning_rate, (int, float)) or not 0 < learning_rate <= 1:
        raise NeurocompileError(
            "NC1015", f"learning_rate is {learning_rate!r}; a number above 0, at most 1, is needed"
        )
    return Recipe(epochs, float(learning_rate), batch, seed)


def _samples(
    data: np.ndarray | str | Path, labels: np.ndarray | None, model: Any, example: Any
) -> tuple[np.ndarray, np.ndarray | None]:
    from neurocompile.frontends.door import calibration_of

    found = calibration_of(data)
    if isinstance(found, Path):
        from neurocompile.frontends.door import open_model

        shape = open_model(model, example, compare=False).graph.input.sample_shape
        samples = load_samples(found, shape)
        x, y = samples.x, samples.y
    elif found is None:
        raise NeurocompileError("NC1006", "data is None; samples are needed to train on")
    else:
        x, y = check_inputs(found, np.shape(found)[1:], "data 'x'"), None
    return x, y if labels is None else check_labels(labels, len(x))


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise NeurocompileError(
            "NC4007", f"device {name!r} cannot be used: {error}".splitlines()[0]
        ) from error
    return device
