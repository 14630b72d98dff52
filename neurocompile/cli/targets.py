"""``neurocompile targets``: what programs can be compiled for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurocompile.cli.common import Json, Output, command
from neurocompile.errors import NeurocompileError

if TYPE_CHECKING:
    from neurocompile.targets import Target


@command
def targets(
    show: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Every number of a target (name or YAML file), with its source."
        ),
    ] = None,
    schema: Annotated[
        bool,
        typer.Option("--schema", help="The JSON Schema of target files, for editors and checks."),
    ] = False,
    json_output: Json = False,
) -> Output:
    """List the targets, show one with sources, or print the schema of target files."""
    import msgspec

    from neurocompile.targets import list_targets, load_target, target_schema

    if schema and show is not None:
        raise NeurocompileError(
            "NC1015",
            "--schema (of all target files) and --show (of one) are two questions; give one of them",
        )
    if schema:
        types = target_schema()
        return Output(types, [json.dumps(types, indent=2)])
    if show is not None:
        target = load_target(show)
        return Output(msgspec.to_builtins(target), _one(target))
    found = [load_target(name) for name in list_targets()]
    return Output({"targets": [_row(target) for target in found]}, _all(found))


def _row(target: Target) -> dict[str, Any]:
    return {
        "name": target.name,
        "description": target.description,
        "chips": target.chips.value,
        "cores": target.cores,
        "neurons_per_core": target.core.neurons.value,
        "synaptic_memory_words_per_core": target.core.synaptic_memory_words.value,
    }


def _all(found: list[Target]) -> Iterator[Any]:
    from neurocompile.cli.tables import table

    columns = (
        "name",
        ">chips",
        ">usable cores",
        ">neurons/core",
        ">memory words/core",
        "description",
    )
    rows = []
    for name, description, *numbers in (_row(target).values() for target in found):
        rows.append((name, *(f"{n:,}" for n in numbers), description))
    yield table(columns, rows)
    yield "\n'targets --show NAME' has every number with its source; --target also takes your own YAML file (docs/new_target.md)"


def _one(target: Target) -> Iterator[Any]:
    import msgspec

    from neurocompile.cli.tables import table

    yield f"{target.name}: {target.description}\n"
    yield table(("number", ">value", "status", "source"), _quantities(msgspec.to_builtins(target)))


def _quantities(fields: dict[str, Any], path: str = "") -> Iterator[tuple[str, str, str, str]]:
    """(path, value, status, source) of every number below ``fields``; absent ones as unpublished."""
    for name, value in fields.items():
        if isinstance(value, str) and path:
            yield path + name, value, "", "which formulas count (docs/mapping.md)"
        elif isinstance(value, dict) and "value" in value:
            yield path + name, _number(value["value"]), value["status"], value["source"]
        elif isinstance(value, dict):
            yield from _quantities(value, f"{path}{name}.")
        elif value is None:
            limit = path == "core." or (not path and name != "static_power")
            yield (
                path + name,
                *(
                    ("none", "", "no such limit")
                    if limit
                    else ("unknown", "", "not published, so left empty")
                ),
            )


def _number(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(f"{n:,}" for n in value) if isinstance(value, (list, tuple)) else f"{value:,}"
