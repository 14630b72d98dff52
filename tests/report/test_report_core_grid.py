"""The chip as a grid: every core in its place, with its load."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest

from neurocompile.mapping import map_circuit
from neurocompile.program import Program
from neurocompile.report.core_grid import draw_core_grid, fullest_of


def hatched(axes) -> int:
    return sum(bool(patch.get_hatch()) for patch in axes.patches)


def test_fullest_resource_of_a_core(digits: Program) -> None:
    for core in digits.mapping.cores:
        name, load = fullest_of(core, digits.target)
        shares = {k: getattr(core.used, k) / limit for k, limit in digits.target.capacity.items()}
        assert load == shares[name] == max(shares.values()) <= 1


def test_one_chip(digits: Program) -> None:
    figure = draw_core_grid(digits)
    chip = figure.axes[0]
    assert len(chip.patches) == 128 + 32 and hatched(chip) == 8
    texts = [t.get_text() for t in chip.texts]
    assert texts[::3] == [str(i) for i in np.lexsort(_places(digits))]
    assert {f"{fullest_of(core, digits.target)[1]:.0%}" for core in digits.mapping.cores} == set(
        texts[1::3]
    )
    titles = " ".join(t.get_text() for t in figure.texts)
    fullest = digits.mapping.fullest(digits.target)
    assert f"qkformer on loihi2: {digits.mapping.cores_used} of 120 cores" in titles
    assert (
        fullest is not None and f"Fullest resource: {fullest.resource.replace('_', ' ')}" in titles
    )
    white = sum(patch.get_facecolor() == (1, 1, 1, 1) for patch in chip.patches)
    assert white == 128 - digits.mapping.cores_used


def _places(program: Program) -> tuple[list[int], ...]:
    """Keys that sort cores by row and column of the tile, then by core of the tile."""
    cores = program.mapping.cores
    return [c.core for c in cores], [c.x for c in cores], [c.y for c in cores]


@pytest.mark.parametrize("columns, per_tile, usable", [(2, 2, 3), (4, 4, 16)])
def test_boards_show_the_chips_in_use(
    digits: Program, columns: int, per_tile: int, usable: int
) -> None:
    replace, target = msgspec.structs.replace, digits.target
    mesh = replace(
        target.mesh,
        columns=replace(target.mesh.columns, value=columns),
        rows=replace(target.mesh.rows, value=1),
        cores_per_tile=replace(target.mesh.cores_per_tile, value=per_tile),
        cores_usable=replace(target.mesh.cores_usable, value=usable),
    )
    board = replace(
        target,
        name="board",
        mesh=mesh,
        chips=replace(target.chips, value=9),
        chip_columns=replace(target.chip_columns, value=3),
    )
    mapping = map_circuit(digits.circuit, board, digits.manifest.rates)
    figure = draw_core_grid(dataclasses.replace(digits, mapping=mapping, target=board))
    chips = {core.chip for core in mapping.cores}
    assert len(figure.axes) == len(chips) + 1  # and the colour bar
    assert all(hatched(axes) == columns * per_tile - usable for axes in figure.axes[:-1])
    assert f"on {len(chips)} of 9 chips" in figure.texts[0].get_text()
    assert bool(figure.axes[0].texts) == (len(chips) <= 4)
