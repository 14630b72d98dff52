"""``neurocompile frames``: recordings of an event camera as samples."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from neurocompile.cli.common import Json, Output, check_output, command


class By(str, Enum):
    """What the frames of a recording have in equal parts."""

    time = "time"
    number = "number"


def _shape(text: str) -> str:
    parts = text.split("x")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):
        raise typer.BadParameter("write polarities x rows x columns, such as 2x128x128")
    return text


@command
def frames(
    recordings: Annotated[
        list[Path],
        typer.Argument(
            metavar="EVENTS...",
            help=".npy or .npz with x, y, t, p, HDF5, or AEDAT 4 or 3.1; one recording each.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="X.npz", help="The samples.")],
    steps: Annotated[int, typer.Option("--T", min=1, metavar="T", help="Frames of a recording.")],
    shape: Annotated[
        str,
        typer.Option(
            metavar="PxHxW",
            callback=_shape,
            help="Polarities (2, or 1 for their sum), rows, columns.",
        ),
    ],
    by: Annotated[
        By, typer.Option(help="Bins of equal time, or of equal numbers of events.")
    ] = By.time,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="Y.npy", help="Integers, a class a recording, kept as 'y'."),
    ] = None,
    json_output: Json = False,
) -> Output:
    """Count the events of recordings into frames, which a model of frames takes.

    The same numbers as SpikingJelly's data sets make, `split_by` time or number.
    """
    check_output(output, *recordings, labels)

    import numpy as np

    from neurocompile.data import load_labels, save_arrays
    from neurocompile.events import frames_from_events, load_events
    from neurocompile.progress import chunks

    sizes = [int(part) for part in shape.split("x")]
    made, events = [], 0
    for part in chunks(len(recordings), 1, "recordings", True):
        found = load_events(recordings[part.start])
        events += len(found)
        made.append(frames_from_events(found, steps, sizes, by=by.value))
    arrays = {"x": np.stack(made)}
    if labels is not None:
        arrays["y"] = load_labels(labels, len(made))
    save_arrays(output, arrays)
    facts = {"output": str(output), "shape": list(arrays["x"].shape), "events": events}
    line = f"wrote {output}: {len(made):,} samples of {steps} x {shape}, {events:,} events"
    return Output(facts, [line])
