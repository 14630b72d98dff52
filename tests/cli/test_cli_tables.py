"""Tables of figures that only large or folded models have, written from their figures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from rich.table import Table

from neurocompile.cli.energy import _beside
from neurocompile.cli.estimate_text import estimate_text
from neurocompile.cli.fold_text import fold_table
from neurocompile.cli.tables import print_table
from neurocompile.energy.beside import Beside, CostOf
from neurocompile.mapping.estimate import Estimate, Need
from neurocompile.mapping.fold_choice import FoldChoice

NONE = FoldChoice(
    fold="none", windows=1, steps=8, latency=20, neurons=9000, cores_at_least=300, host_values=64
)
FOLDED = msgspec.structs.replace(
    NONE, fold="1x4", windows=4, steps=32, neurons=2500, cores_at_least=90, host_clocks=3
)
WIDE = msgspec.structs.replace(FOLDED, fold="1x2", windows=2, steps=16, cores_at_least=160)
NEED = Need(
    resource="synmem",
    label="synaptic memory",
    needed=1200,
    per_core=10,
    cores=120,
    largest="fc",
    largest_needed=700,
)


def printed(capsys: pytest.CaptureFixture[str], parts: Iterable[Any]) -> list[list[str]]:
    """Words of each line."""
    for part in parts:
        print_table(part) if isinstance(part, Table) else print(part)
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_folds_that_cannot_fit_and_the_one_that_is_taken_are_marked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = printed(capsys, [fold_table([NONE, WIDE, FOLDED], 120, chosen="1x4")])
    assert lines[2][:4] == ["none", "8", "20", "300"] and lines[2][-3:] == ["more", "than", "120"]
    assert lines[3][0] == "1x2" and lines[3][-3:] == ["more", "than", "120"]
    assert lines[4][0] == "1x4" and lines[4][-1] == "taken"


def test_an_estimate_names_what_rules_a_model_out(capsys: pytest.CaptureFixture[str]) -> None:
    alone = Estimate(
        circuit="net",
        target="loihi2",
        neurons=9000,
        cores_at_least=300,
        cores_available=120,
        needs=(NEED,),
        violations=(("NC3101", "300 cores are needed"), ("NC3102", "fc does not fit")),
    )
    lines = printed(capsys, estimate_text(alone))
    said = [" ".join(line) for line in lines]
    assert said[0] == "net on loihi2: 9,000 neurons, at least 300 of 120 cores"
    assert "synaptic memory 1,200 10 120 fc: 700" in said
    assert said[-3:] == [
        "does not fit (2):",
        "NC3101 300 cores are needed",
        "NC3102 fc does not fit",
    ]
    folded = msgspec.structs.replace(alone, folds=(NONE, FOLDED))
    said = [" ".join(line) for line in printed(capsys, estimate_text(folded))]
    assert "unrolled it does not fit (2); folded in time, at least:" in said
    assert not any(line.startswith("does not fit") for line in said)  # a fold may
    assert any(line.startswith("1x4 32 ") for line in said)


def test_folded_and_unrolled_stand_beside_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    cost = CostOf(
        profile="davies2018",
        hardware="Loihi",
        folded_pj=6e6,
        unrolled_pj=2e6,
        folded_us=30.0,
        unrolled_us=10.0,
        folded_idle_pj=1e6,
        unrolled_idle_pj=0.0,
        folded_idle_us=6.0,
        unrolled_idle_us=3.0,
    )
    nothing = CostOf(
        profile="unpriced",
        hardware="none",
        **dict.fromkeys([n for n in CostOf.__struct_fields__ if n not in ("profile", "hardware")]),
    )
    found = Beside(folded=FOLDED, unrolled=NONE, costs=[cost, nothing])
    said = [" ".join(line) for line in printed(capsys, [_beside(found)])]
    assert said[0] == "a sample folded 1x4 unrolled times"
    assert "cores, at least 90 300 0.30" in said and "steps a sample 32 8 4.00" in said
    assert "of them clocks 3 0" in said  # nothing to be divided by
    assert any(
        s.startswith("energy, davies2018 ") and s.endswith("3.00 (costs more)") for s in said
    )
    assert "time at least, davies2018 30.0 us 10.0 us 3.00" in said
    assert "of it idle neurons and steps 6.0 us 3.0 us 2.00" in said
    assert not any("unpriced" in line for line in said)
