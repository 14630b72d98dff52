"""Loihi 2's numbers stand in one file, ``ir/fields.py``; whoever chooses integers asks the chip's fields."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import neurocompile
from neurocompile.ir import fields

ROOT = Path(neurocompile.__file__).parent
NUMBERS = {
    fields.PAYLOAD: "the largest state or message",
    fields.PAYLOAD + 1: "one more than that",
    fields.THRESHOLD: "the largest threshold, or current",
    fields.THRESHOLD + 1: "one more than that",
    2 * fields.CURRENT + 1: "what a loop holds",
    2 * fields.CURRENT + 2: "one more than that",
    fields.INSTANT: "the whole of a current's decay",
    fields.WEIGHT << fields.WEIGHT_EXPONENT: "the largest synapse",
    fields.MIXED[1]: "the largest even weight",
}
COMMON = {
    fields.ALL: "the whole of a decay",
    fields.WEIGHT: "the largest weight",
    fields.SPIKE_DELAY: "the longest delay",
}
"""Numbers of many meanings: looked for where integers are chosen or judged."""
CHOOSING = ("ir/", "circuits/", "passes/", "folding/", "targets/", "pass_order.py", "placing.py")
ELSEWHERE = {
    "ir/fields.py": "the numbers themselves",
    "gpu/kernels.py": "Triton's kernels take no value of Python's",
    "ir/spiking_rules.py": "255 spikes a step: traces have 8 bits",
    "passes/quantize.py": "255 levels of an input: pictures have 8 bits",
    "passes/compose_convolutions.py": "4,096 neurons of a core, where no target is asked",
    "passes/quantization/weights.py": "a layer without weights counts in 2^-12 of a threshold",
    "passes/quantization/residuals.py": "a residual's unit is 2^-12 of a threshold",
    "passes/quantization/real.py": "points at which a function is looked at",
    "circuits/softmax.py": "samples of an expectation",
    "folding/reading.py": "results that are kept",
    "theory/experiments/attention_task.py": "the most steps of an experiment",
}
"""Files that mean something else by such a number, or cannot import it."""


def _value(node: ast.AST) -> int | None:
    """Of an expression of integers, as ``(1 << 17) - 1``."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.BinOp):
        a, b = _value(node.left), _value(node.right)
        if a is None or b is None or b > 64:
            return None
        match node.op:
            case ast.LShift():
                return a << b if b >= 0 else None
            case ast.Sub():
                return a - b
            case ast.Add():
                return a + b
            case ast.Pow():
                return a**b if b >= 0 else None
    return None


def _found(text: str, numbers: dict[int, str]) -> set[int]:
    found = set()
    stack: list[ast.AST] = [ast.parse(text)]
    while stack:
        node = stack.pop()
        value = _value(node) if isinstance(node, ast.expr) else None
        if value is None:
            stack += ast.iter_child_nodes(node)
        elif value in numbers:
            found.add(value)
    return found


def test_the_chips_numbers_stand_in_one_file() -> None:
    places: dict[str, set[int]] = defaultdict(set)
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        numbers = NUMBERS | (COMMON if name.startswith(CHOOSING) else {})
        if not name.startswith("frontends/"):
            places[name] |= _found(path.read_text(encoding="utf-8"), numbers)
    found = {name: numbers for name, numbers in places.items() if numbers}
    wrong = {n: v for n, v in found.items() if n not in ELSEWHERE}
    assert wrong == {}, "ask ChipFields (targets/fields.py) or ir/fields.py"
    assert not ELSEWHERE.keys() - found.keys(), "they hold none any more: take them out"


def test_the_finder_finds() -> None:
    every = NUMBERS | COMMON
    assert _found("a = (1 << 17) - 1\nb = x[4096] * 255 << y", every) == {131071, 4096, 255}
    assert _found('"131071"\nc = 131_071 + n', every) == {131071}
    assert not _found("d = 4096.0; e = 1 << 16", every)
