"""The last resort of the public functions: no exception but a NeurocompileError leaves them.

What is foreseen has a code and a line of its own where it happens. What is not is a defect, and
says so: NC9001 with the foreign exception chained.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from os import PathLike
from typing import Any, TypeVar

from neurocompile.errors import NeurocompileError

__all__ = ["guarded"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def guarded(function: _Function) -> _Function:
    """``function`` of which only NeurocompileError escapes: NC1015 for arguments that it does not
    take, NC9001 for what nobody foresaw.
    """

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except NeurocompileError:
            raise
        except Exception as error:
            raise _as_ours(function, arguments, error) from error

    return call  # type: ignore[return-value]


def _as_ours(
    function: Callable[..., Any], arguments: tuple[Any, ...], error: Exception
) -> NeurocompileError:
    frame = error.__traceback__ and error.__traceback__.tb_next
    if isinstance(error, TypeError) and frame is None:  # the call itself, before a line of it ran
        said = str(error).removeprefix(f"{function.__qualname__}() ")
        return NeurocompileError("NC1015", f"{function.__name__}() {said}")
    text, what = _text(error), f" of {_named(arguments[0])}" if arguments else ""
    return NeurocompileError(
        "NC9001",
        f"{function.__name__}{what}: {type(error).__name__}{': ' if text else ''}{text}; please report it with the model",
    )


def _named(value: Any) -> str:
    if isinstance(value, (str, PathLike)) and (text := _text(value)):
        return f"'{text}'"
    return value.__name__ if isinstance(value, type) else type(value).__name__


def _text(value: Any) -> str:
    """One line of at most 300 letters; "" where a class of somebody's raises instead."""
    try:
        return " ".join(str(value).split())[:300]
    except Exception:
        return ""
