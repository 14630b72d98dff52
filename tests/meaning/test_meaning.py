"""Every spike of random programs without rounding is that of float64, and parity is exact."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from oracle import Verdict, judge, judge_module, judge_seed  # noqa: E402
from programs import random_program, spikes_of  # noqa: E402

import neurocompile  # noqa: E402

_FEW, _MANY, _MODULES = 12, 500, 30
_ONCE = (2341, 3961, 4281, 4672)
"""Seeds that were wrong, or refused: nothing left of a layer's weights, one step."""


def check(verdict: Verdict) -> None:
    assert not verdict.refused, verdict
    assert verdict.exact and not verdict.different and not verdict.where, verdict


@pytest.mark.parametrize("seed", range(_FEW))
def test_every_spike_of_a_file_is_that_of_float64(seed: int) -> None:
    check(judge_seed(seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [*range(_FEW, _MANY), *_ONCE])
def test_every_spike_of_many_files(seed: int) -> None:
    check(judge_seed(seed, mapped=False))


@pytest.mark.parametrize(
    "seed", [pytest.param(s, marks=pytest.mark.slow if s > 3 else []) for s in range(100)]
)
def test_what_only_meets_a_strict_threshold_stays_silent(seed: int) -> None:
    check(judge_seed(seed, mapped=False, strict=True))


@pytest.mark.parametrize(
    "seed", [pytest.param(s, marks=pytest.mark.slow if s > 1 else []) for s in range(_MODULES)]
)
def test_every_spike_of_a_module_is_that_of_float64(seed: int) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("spikingjelly")
    check(judge_module(seed, mapped=seed < 2))


def test_the_oracle_sees_a_threshold_that_is_one_unit_off(tmp_path) -> None:
    from front_ends import write_onnx

    seen = 0
    for seed in range(4):
        program = random_program(seed)
        first = next(k for k in program.layers if k.op == "fire")
        other = replace(first, threshold=first.threshold * 1.01 + 2.0**-20)
        changed = replace(program, layers=tuple(other if k is first else k for k in program.layers))
        met = spikes_of(program)[first.name] != spikes_of(changed)[first.name]
        write_onnx(program, tmp_path / "m.onnx")
        x = program.x.astype(np.float32)
        compiled = neurocompile.compile(tmp_path / "m.onnx", T=program.T, calibration=x)
        verdict = judge(changed, compiled)
        assert (verdict.different > 0) == bool(met.any())
        seen += verdict.different > 0
    assert seen


def test_a_log_that_was_cut_off_is_gone_on_with(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "tools"))
    nightly_meaning = pytest.importorskip("nightly_meaning", reason="an install has no tools")

    log = tmp_path / "verdicts.jsonl"
    lines = [json.dumps({"seed": k, **asdict(Verdict(spikes=5 + k))}) for k in range(2)]
    log.write_text("\n".join([*lines, lines[0][:20]]))
    monkeypatch.setattr(sys, "argv", ["nightly_meaning.py", "2", "--log", str(log)])
    assert nightly_meaning.main() == 0
    assert "| all | 2 | 2 | 11 | 0 | 0 |" in capsys.readouterr().out
    assert log.read_text().count("seed") == 3  # nothing was run again
