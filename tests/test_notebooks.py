"""The notebooks of examples/ run, and print what they show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "examples" / "notebooks"
if not FOLDER.is_dir():
    pytest.skip("an installed wheel has no examples", allow_module_level=True)
nbformat = pytest.importorskip("nbformat", reason="needs the extra notebook")
nbclient = pytest.importorskip("nbclient", reason="needs the extra notebook")
BOOKS = sorted(FOLDER.glob("*.ipynb"))
VARIES = {"02_own_model"}
"""Trains: the last digits of a float sum are the machine's."""


def read(path: Path) -> Any:
    return nbformat.read(path, nbformat.NO_CONVERT)


def printed(book: Any) -> list[str]:
    return [
        output["text"]
        for cell in book.cells
        for output in cell.get("outputs", ())
        if output["output_type"] == "stream" and output["name"] == "stdout"
    ]


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_executed_and_small(path: Path) -> None:
    book = read(path)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(cell.execution_count == i for i, cell in enumerate(code, 1))
    assert path.stat().st_size < 800_000
    assert not any(o["output_type"] == "error" for cell in code for o in cell.outputs)


@pytest.mark.slow
@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_notebooks_run_and_print_what_they_show(path: Path, tmp_path: Path) -> None:
    for name in ("torch", "spikingjelly") if path.stem in VARIES else ():
        pytest.importorskip(name)
    kept, book = read(path), read(path)
    client = nbclient.NotebookClient(
        book, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    if path.stem not in VARIES:
        assert printed(book) == printed(kept)
