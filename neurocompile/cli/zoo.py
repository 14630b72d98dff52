"""``neurocompile zoo``: the trained models that ship."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurocompile.cli.common import Json, Output, command
from neurocompile.errors import NeurocompileError

if TYPE_CHECKING:
    from neurocompile.zoo import ZooModel


class Question(str, Enum):
    """What ``neurocompile zoo`` is asked."""

    list = "list"
    path = "path"
    card = "card"


@command
def zoo(
    question: Annotated[
        Question,
        typer.Argument(
            metavar="list|path|card",
            help="All models; or, of one, where its weights lie, or its card.",
        ),
    ],
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="As the list has it, or its last part.")
    ] = None,
    json_output: Json = False,
) -> Output:
    """List the trained models that ship, or say where one lies and how it was made."""
    from neurocompile.zoo import find_model, list_models

    if question is Question.list:
        if name is not None:
            raise NeurocompileError("NC6002", f"zoo list takes no name; got '{name}'")
        found = list_models()
        return Output({"models": [_data(model) for model in found]}, _all(found))
    if name is None:
        raise NeurocompileError("NC6002", f"zoo {question.value} needs a NAME; zoo list has them")
    model = find_model(name)
    if question is Question.card:
        text = model.card.read_text(encoding="utf-8")
        return Output({**_data(model), "text": text}, [text])
    if not model.installed:
        raise NeurocompileError(
            "NC1001",
            f"the weights of '{model.name}' are not part of the wheel: '{model.path}' is missing; "
            f"put the file '{model.path.name}' of models/zoo/{model.path.parent.name} in the project's repository there",
        )
    return Output(_data(model), [str(model.path)])


def _data(model: ZooModel) -> dict[str, Any]:
    return {**asdict(model), "path": str(model.path), "card": str(model.card)}


def _all(models: list[ZooModel]) -> Iterator[Any]:
    from neurocompile.cli.tables import table

    columns = ("name", "trained on", ">T", ">parameters", ">accuracy, float", "weights")
    yield table(
        columns,
        [
            (
                m.name,
                m.data,
                str(m.T),
                f"{m.parameters:,}",
                f"{m.accuracy:.2%} of {m.total:,}",
                "here" if m.installed else "not in the wheel",
            )
            for m in models
        ],
    )
    yield "\n'zoo path NAME' prints a model's file, 'zoo card NAME' data, recipe and licence; 'zoo list --json' has under 'source' what build takes"
