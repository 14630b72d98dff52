"""What every command that reads a model takes: the model, calibration data, and one option for each
field of :class:`~neurocompile.options.BuildOptions`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from neurocompile.options import BuildOptions, OptionField

__all__ = ["Calibration", "Model", "source_of", "with_options"]

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="An ONNX file, or package.module:function that returns (module, example input).",
        show_default=False,
    ),
]
Calibration = Annotated[
    Path | None,
    typer.Option(metavar="X.npz", help="Samples to quantize with and to measure spike rates on."),
]


def with_options(
    *concerns: str, but: Collection[str] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command, in the place of its parameter ``options: BuildOptions``, an option for every
    field that concerns the model, or the mapping too, ``but`` those that it takes lists of.
    """
    fields = [
        field
        for field in BuildOptions.fields()
        if field.about.concerns in concerns and field.name not in but
    ]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def command(**given: Any) -> Any:
            chosen = {field.name: given.pop(field.name) for field in fields}
            return function(**given, options=BuildOptions(**chosen))

        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(function, eval_str=True).parameters.values():
            if parameter.name == "options":
                parameters += map(_parameter, fields)
            else:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        del command.__wrapped__
        return command

    return decorate


def _parameter(field: OptionField) -> inspect.Parameter:
    # a head is a name or a number: what a file or a module makes of it
    kind = str | None if field.kind == int | str | None else field.kind
    name = field.name if field.name == "T" else field.name.replace("_", "-")
    option = typer.Option(f"--{name}", metavar=field.about.metavar, help=field.about.help)
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=field.default,
        annotation=Annotated[kind, option],
    )


def source_of(model: str) -> tuple[Any, Any, str]:
    """(path or module, its example input, a name for its artifact) of a command's MODEL."""
    from neurocompile.frontends.torch.module import is_factory, load_factory

    path = Path(model)
    if is_factory(model) and not path.exists():
        return *load_factory(model), model.partition(":")[2]
    return path, None, path.stem
