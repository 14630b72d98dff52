"""One optimizer step on a batch, as a CUDA graph where there is a GPU, and the state that a resumed
run needs.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .teacher import distillation_loss

__all__ = ["Recipe", "Trainer"]


@dataclass(frozen=True)
class Recipe:
    """What every step does alike."""

    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    """AdamW's, of weights with two dimensions or more."""
    label_smoothing: float = 0.1
    distillation: float = 0.8
    """Share of the teachers in the loss; the labels have the rest."""
    temperature: float = 2.0
    clip: float = 2.0
    """Largest norm of the gradient."""
    ema_decay: float = 0.998
    """A step of the moving average of the weights, which is what is kept."""


class Trainer:
    """A model, the moving average of its state, its optimizer and its teachers, on one device.

    Args:
        model: already on the device, neurons fused.
        teachers: dense networks in eval mode; their mean logits are the soft target.
        batch_size: of every batch.
        image_shape: (3, H, W).
    """

    WARM_UP_STEPS = 4
    """Eager steps before one is captured: kernels are chosen and compiled in them."""

    def __init__(
        self,
        model: nn.Module,
        teachers: list[nn.Module],
        recipe: Recipe,
        batch_size: int,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        classes: int = 10,
    ) -> None:
        self.model, self.teachers, self.recipe = model, teachers, recipe
        self.device = next(model.parameters()).device
        self.cuda = self.device.type == "cuda"
        decayed = [p for p in model.parameters() if p.ndim > 1]
        others = [p for p in model.parameters() if p.ndim <= 1]
        self.rate: Any = torch.zeros((), device=self.device) if self.cuda else 0.0
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": recipe.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=self.rate,
            fused=self.cuda,
            capturable=self.cuda,
        )
        self.tracked = [v for v in model.state_dict().values() if v.is_floating_point()]
        self.ema = [v.detach().clone() for v in self.tracked]
        self.x = torch.zeros(batch_size, *image_shape, device=self.device)
        self.x = self.x.contiguous(memory_format=torch.channels_last)
        self.y = torch.zeros(batch_size, classes, device=self.device)
        self.loss = torch.zeros((), device=self.device)
        """Sum of the losses since it was last set to 0."""
        self.forget_graph()

    def forget_graph(self) -> None:
        """To be called when the model changes its number of simulation steps."""
        self._graph, self._eager_steps = None, 0

    def step(self, x: torch.Tensor, y: torch.Tensor, rate: float) -> None:
        """One step on images ``x`` and target probabilities ``y`` at learning rate ``rate``."""
        self.x.copy_(x)
        self.y.copy_(y)
        self._set_rate(rate)
        if not self.cuda:
            self._step()
        elif self._graph is not None:
            self._graph.replay()
        elif self._eager_steps < self.WARM_UP_STEPS:
            self._eager_steps += 1
            self._on_side_stream()
        else:
            self._capture()
            self._graph.replay()  # pyright: ignore

    def _set_rate(self, rate: float) -> None:
        if self.cuda:
            self.rate.fill_(rate)
        else:
            for group in self.optimizer.param_groups:
                group["lr"] = rate

    def _on_side_stream(self) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._step()
        torch.cuda.current_stream().wait_stream(stream)

    def _capture(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step()
        self._graph = graph

    def _step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.ema, self.tracked, 1.0 - self.recipe.ema_decay)
            self.loss.add_(loss.detach())

    def _loss(self) -> torch.Tensor:
        recipe = self.recipe
        low_precision = (
            # without its cache of cast weights, which a captured graph must not share
            torch.autocast("cuda", torch.bfloat16, cache_enabled=False)
            if self.cuda
            else contextlib.nullcontext()
        )
        with low_precision:
            logits = self.model(self.x)
            with torch.no_grad():
                taught = [teacher(self.x).float() for teacher in self.teachers]
        logits = logits.float()
        loss = F.cross_entropy(logits, self.y, label_smoothing=recipe.label_smoothing)
        if not taught:
            return loss
        soft = distillation_loss(logits, torch.stack(taught).mean(0), recipe.temperature)
        return torch.lerp(loss, soft, recipe.distillation)

    def state(self) -> dict[str, Any]:
        """Everything that later steps depend on."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema,
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self.model.load_state_dict(state["model"])
        for mine, given in zip(self.ema, state["ema"], strict=True):
            mine.copy_(given)
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate

    def copy_average_to(self, model: nn.Module) -> None:
        """Give ``model``, built as the trained one, the moving average of its state."""
        targets = [v for v in model.state_dict().values() if v.is_floating_point()]
        with torch.no_grad():
            for target, value in zip(targets, self.ema, strict=True):
                target.copy_(value)
