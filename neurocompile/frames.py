"""Results as tables of pandas and as bars of matplotlib, for notebooks; neither is a dependency."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from neurocompile.errors import NeurocompileError

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

__all__ = ["bars", "data_frame"]

_ROW = 0.24
"""Inches of a bar's row."""
_LONGEST = 36
"""Letters of a name that are shown."""


def data_frame(rows: Iterable[Mapping[str, Any]], index: str) -> pandas.DataFrame:
    """``rows`` as a DataFrame with the column ``index`` as its index; NC4001 without pandas."""
    if find_spec("pandas") is None:
        raise NeurocompileError(
            "NC4001", "to_pandas needs pandas: pip install 'neurocompile[notebook]'"
        )
    import pandas

    return pandas.DataFrame([dict(row) for row in rows]).set_index(index)


def bars(
    title: str, names: Sequence[str], series: Mapping[str, Sequence[float]], what: str
) -> Figure:
    """One row a name, first on top, with one bar of each series; NC4001 without matplotlib.

    Args:
        series: label -> one number a name, of the unit that ``what`` says.
        what: names the axis.
    """
    if find_spec("matplotlib") is None:
        raise NeurocompileError("NC4001", "plots need matplotlib: pip install 'neurocompile[plot]'")
    from matplotlib.figure import Figure

    thick = 0.8 / max(len(series), 1)
    figure = Figure(
        figsize=(9, 1.5 + _ROW * max(len(names), 2) * max(len(series), 1) ** 0.5), dpi=110
    )
    axes = figure.add_subplot()
    for i, (label, values) in enumerate(series.items()):
        axes.barh(
            [k + (i + 0.5) * thick - 0.4 for k in range(len(names))], values, thick, label=label
        )
    axes.set_yticks(range(len(names)), [_short(name) for name in names], fontsize=8)
    axes.invert_yaxis()
    axes.set_title(title.replace("$", "\\$"), fontsize=11)
    axes.set_xlabel(what, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    if len(series) > 1:
        axes.legend(fontsize=8, frameon=False)
    figure.set_layout_engine("constrained")
    return figure


def _short(name: str) -> str:
    """No dollar signs, which would be read as mathematics."""
    name = name.replace("$", "\\$")
    return name if len(name) <= _LONGEST else f"...{name[3 - _LONGEST :]}"
