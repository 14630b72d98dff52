"""Train a reference model, or a dense teacher for them, on CIFAR-10: one schedule in a given time.

    python examples/cifar10_to_npz.py ARCHIVE --part train -o train.npz
    python examples/cifar10_to_npz.py ARCHIVE --part test -o test.npz
    python -m neurocompile.models.zoo.cifar10.train resnet-18 --minutes 3 --train train.npz --test test.npz
    python -m neurocompile.models.zoo.cifar10.train qkformer-4-256 --minutes 22 --train train.npz \\
        --test test.npz --teacher resnet-18.safetensors --phases 1:0.35,4:0.65

Data and augmentation stay on the device, the step is one CUDA graph, neurons are fused over their
steps, arithmetic is bfloat16 (on a GPU) with float32 potentials. With ``--phases`` the model learns
at few simulation steps first, which is cheaper, and at T last. Weights are rounded to what the file
holds, normalizations get their statistics in float32, and only then the test images are looked at.

Writes ``OUT/NAME.safetensors``, ``OUT/NAME.json`` (facts, accuracy, spike rates) and
``OUT/NAME.checkpoint``, from which ``--resume`` continues. What follows the schedule, half a minute
on a GPU, is not counted in ``--minutes``. With ``--epochs`` the schedule counts
steps and a resumed run on a CPU ends at the same weights as an uninterrupted one; with
``--minutes`` it follows the clock. ``--initial`` starts from the weights of a file instead of random
ones.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from .augment import augmented, mixed, padded
from .evaluate import accuracy, calibrate, spike_rates
from .fused_lif import fuse
from .schedule import Progress, learning_rate, parse_phases, steps_of
from .teacher import TEACHERS
from .trainer import Recipe, Trainer
from .weights import build_model, load, round_weights, save, set_steps

CLASSES = 10
DATA = "CIFAR-10"
CALIBRATION_IMAGES = 20_000
_SYNCHRONIZE = 25
"""Steps between two looks at the clock, for which the device must have caught up."""


def read(path: Path, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Images uint8 (N, 3, 32, 32) and labels int64 (N,) of a file of examples/cifar10_to_npz.py."""
    with np.load(path, allow_pickle=False) as file:
        x, y = file["x"], file["y"]
    if x.dtype != np.uint8 or x.shape[1:] != (3, 32, 32) or y.shape != x.shape[:1]:
        sys.exit(f"'{path}': x is {x.dtype} {x.shape}, expected uint8 (N, 3, 32, 32), and y (N,)")
    return torch.from_numpy(x).to(device), torch.from_numpy(y).long().to(device)


class Run:
    """One training."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.device = torch.device(options.device)
        torch.manual_seed(options.seed)
        torch.backends.cudnn.benchmark = True
        self.phases = options.phases
        self.images, self.labels = read(options.train, self.device)
        self.batch = min(options.batch, len(self.images))
        self.recipe = Recipe(
            learning_rate=options.lr,
            distillation=options.distillation if options.teacher else 0.0,
            label_smoothing=options.label_smoothing,
        )
        model = self._fresh(options.name).train()
        if options.initial:
            model.load_state_dict(load(options.initial).state_dict())
        teachers = [self._placed(load(path)) for path in options.teacher]
        self.trainer = Trainer(model, teachers, self.recipe, self.batch)
        self.generator = torch.Generator(self.device).manual_seed(options.seed)
        self.steps_an_epoch = len(self.images) // self.batch
        self.progress = Progress(
            None if options.minutes else options.epochs * self.steps_an_epoch,
            options.minutes * 60 if options.minutes else None,
        )
        self.epoch = 0
        self.padded = padded(self.images)

    def _placed(self, model: torch.nn.Module) -> torch.nn.Module:
        return model.to(self.device, memory_format=torch.channels_last)  # pyright: ignore

    def _fresh(self, name: str) -> torch.nn.Module:
        model = build_model(name, self.phases[-1][0])
        return self._placed(model if name in TEACHERS else fuse(model))

    @property
    def checkpoint(self) -> Path:
        """Where the state is kept."""
        return self.options.out / f"{self.options.name}.checkpoint"

    def resume(self) -> None:
        """Continue from the checkpoint; SystemExit where it is of another training."""
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        if state["settings"] != self.settings():
            sys.exit(f"'{self.checkpoint}' is of a training with {state['settings']}")
        self.trainer.load_state(state["trainer"])
        self.generator.set_state(state["generator"].cpu())
        self.epoch, self.progress.step = state["epoch"], state["step"]
        self.progress.before = state["elapsed"]

    def settings(self) -> dict[str, Any]:
        """What a resumed run must have in common with the one before."""
        return {
            "model": self.options.name,
            "seed": self.options.seed,
            "batch": self.batch,
            "phases": [list(phase) for phase in self.phases],
            "minutes": self.options.minutes,
            "epochs": None if self.options.minutes else self.options.epochs,
            "images": len(self.images),
            "teachers": len(self.options.teacher),
            "initial": self.options.initial.name if self.options.initial else None,
            "unmixed": self.options.unmixed,
            **asdict(self.recipe),
        }

    def write_checkpoint(self) -> None:
        """All or nothing: a kill while it writes leaves the last one."""
        temporary = self.checkpoint.with_suffix(".new")
        state = {
            "settings": self.settings(),
            "trainer": self.trainer.state(),
            "generator": self.generator.get_state(),
            "epoch": self.epoch,
            "step": self.progress.step,
            "elapsed": self.progress.elapsed,
        }
        torch.save(state, temporary)
        os.replace(temporary, self.checkpoint)

    def train(self) -> None:
        """To the end of the schedule, or of ``--stop-after`` epochs."""
        options, T, saved = self.options, 0, time.monotonic()
        while self.progress.share < 1.0:
            if steps_of(self.phases, self.progress.share) != T:
                T = steps_of(self.phases, self.progress.share)
                set_steps(self.trainer.model, T)
                self.trainer.forget_graph()
            start = time.monotonic()
            steps = self._one_epoch()
            self.epoch += 1
            loss = float(self.trainer.loss) / max(steps, 1)
            note = f"epoch {self.epoch} T {T} loss {loss:.4f} {time.monotonic() - start:.2f} s"
            if options.watch and self.epoch % options.watch == 0:
                note += f" test {self._accuracy_now(T):.4f}"
            print(f"{note} at {self.progress.share:.1%}", flush=True)
            if time.monotonic() - saved > options.checkpoint_minutes * 60:
                self.write_checkpoint()
                saved = time.monotonic()
            if options.stop_after and self.epoch >= options.stop_after:
                break
        self.write_checkpoint()

    def _one_epoch(self) -> int:
        """Steps made; fewer than an epoch has if the time ends."""
        self.trainer.loss.zero_()
        order = torch.randperm(len(self.images), generator=self.generator, device=self.device)
        share, made = self.progress.share, 0
        for index in order[: self.steps_an_epoch * self.batch].split(self.batch):
            if self.progress.seconds is None:
                share = self.progress.share
            elif made % _SYNCHRONIZE == 0:
                if self.device.type == "cuda":
                    torch.cuda.synchronize()
                share = self.progress.share
                if share >= 1.0:
                    break
            self._batch(index, share)
            self.progress.step += 1
            made += 1
        return made

    def _batch(self, index: torch.Tensor, share: float) -> None:
        x = augmented(self.padded, index, self.generator)
        y = F.one_hot(self.labels[index], CLASSES).float()
        if share < 1.0 - self.options.unmixed:
            x, y = mixed(x, y, self.generator)
        self.trainer.step(x, y, learning_rate(self.recipe.learning_rate, share))

    def _average(self, T: int) -> torch.nn.Module:
        model = self._fresh(self.options.name)
        set_steps(model, T)
        self.trainer.copy_average_to(model)
        return model.eval()

    def _accuracy_now(self, T: int) -> float:
        """Of the average with its running statistics; looked at, never used to choose."""
        images, labels = read(self.options.test, self.device)
        return accuracy(self._average(T), images, labels) / len(images)

    def _calibration_images(self) -> torch.Tensor:
        """A draw of the training images: files hold them class by class, and the statistics of a
        batch of one class are not those of the data.
        """
        draw = torch.randperm(len(self.images), generator=torch.Generator().manual_seed(0))
        return self.images[draw[:CALIBRATION_IMAGES].to(self.device)]

    def finish(self) -> dict[str, Any]:
        """Round, calibrate, measure and write the model; what its card says."""
        options, T = self.options, self.phases[-1][0]
        model = self._average(T)
        round_weights(model)
        calibrate(model, self._calibration_images())
        images, labels = read(options.test, self.device)
        facts = {
            "model": options.name,
            "data": options.data,
            "suffix": ".safetensors",
            "T": None if options.name in TEACHERS else T,
            "parameters": sum(p.numel() for p in model.parameters()),
            "correct": accuracy(model, images, labels),
            "total": len(images),
            "epochs": self.epoch,
            "steps": self.progress.step,
            "seconds": round(self.progress.elapsed),
            "device": torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu",
            "torch": torch.__version__,
            "teachers": [path.name for path in options.teacher],
            "settings": self.settings(),
            "rates": {k: round(v, 5) for k, v in spike_rates(model, images).items()},
        }
        save(model, options.out / f"{options.name}.safetensors", {"model": options.name})
        text = json.dumps(facts, indent=1, sort_keys=True) + "\n"
        (options.out / f"{options.name}.json").write_text(text, encoding="utf-8")
        return facts


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("name", help="a reference model (models/registry.py), or resnet-18")
    made.add_argument("--train", type=Path, required=True, help="of examples/cifar10_to_npz.py")
    made.add_argument("--test", type=Path, required=True, help="the same of the test images")
    made.add_argument("--data", default=DATA, help="what the facts call the images")
    made.add_argument("--out", type=Path, default=Path("."), help="folder to write to")
    length = made.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="the schedule ends after this time")
    length.add_argument("--epochs", type=int, help="the schedule ends after as many epochs")
    made.add_argument("--phases", type=parse_phases, default=((4, 1.0),), help="T:share,T:share")
    made.add_argument("--teacher", type=Path, nargs="*", default=[], help="weights to learn from")
    made.add_argument("--initial", type=Path, help="weights of the same model to start from")
    made.add_argument("--batch", type=int, default=256)
    made.add_argument("--lr", type=float, default=Recipe.learning_rate, help="highest")
    made.add_argument("--distillation", type=float, default=Recipe.distillation, help="share")
    made.add_argument("--label-smoothing", type=float, default=Recipe.label_smoothing)
    made.add_argument("--unmixed", type=float, default=0.0, help="last share without mixing")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument("--resume", action="store_true", help="continue from OUT/NAME.checkpoint")
    made.add_argument("--checkpoint-minutes", type=float, default=3.0)
    made.add_argument("--stop-after", type=int, help="epochs after which to stop, to be resumed")
    made.add_argument(
        "--watch", type=int, default=0, help="print test accuracy every so many epochs"
    )
    return made


def _check(made: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """One line and exit code 2 for what cannot be trained."""
    from neurocompile.models.registry import MODELS

    if options.name not in TEACHERS and options.name not in MODELS:
        made.error(f"no model '{options.name}'; there are {', '.join([*TEACHERS, *MODELS])}")
    for name in ("minutes", "epochs", "batch", "lr", "stop_after"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            made.error(f"--{name.replace('_', '-')} is {value}, it must be above 0")
    needed = [options.train, options.test, *options.teacher]
    if options.initial:
        needed.append(options.initial)
    if options.resume:
        needed.append(options.out / f"{options.name}.checkpoint")
    for path in needed:
        if not path.is_file():
            made.error(f"cannot read '{path}': no such file")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and unless stopped early write the model."""
    made = parser()
    options = made.parse_args(arguments)
    _check(made, options)
    options.out.mkdir(parents=True, exist_ok=True)
    run = Run(options)
    if options.resume:
        run.resume()
    run.train()
    if run.progress.share >= 1.0:
        facts = run.finish()
        shown = {k: v for k, v in facts.items() if k not in ("rates", "settings")}
        print(json.dumps(shown, sort_keys=True), flush=True)


if __name__ == "__main__":
    main()
