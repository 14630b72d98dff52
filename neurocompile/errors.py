"""Errors that teach: one line with a stable code, and a longer text behind ``neurocompile explain
NC####``.

A message says what is wrong, where, how much against which limit, and what to do. The first digit
of a code is the stage: 1 files and import, 2 canonicalize, quantize and lower, 3 target and
mapping, 4 backends, 5 artifact, 6 command line, 7 energy, 8 theory, 9 a broken invariant of
neurocompile itself.
"""

from __future__ import annotations

from typing import Any

from neurocompile.error_codes import CATALOGUE

__all__ = ["NeurocompileError", "ViolationList", "argument", "explain", "not_importable", "shown"]


class NeurocompileError(Exception):
    """A user-facing error: ``NC#### message``.

    Args:
        code: a key of :data:`CATALOGUE`.
        message: what, where, how much against which limit, and what to do, in one line.
        kind: tells apart errors of one code that callers treat differently; "" where nobody does.
            Programs read code, kind, layer and details; the message is for people.
        layer: of the model, by the name of its node, which the error is about; "" for none.
    """

    details: list[dict[str, object]] | None = None
    """The same for programs, where an error is a list; printed with ``--json``."""

    def __init__(self, code: str, message: str, *, kind: str = "", layer: str = "") -> None:
        if code not in CATALOGUE:
            raise KeyError(f"error code {code} is not in the catalogue")
        self.code = code
        self.message = _one_line(message)
        self.kind = kind
        self.layer = str(layer)
        super().__init__(f"{code} {self.message}")

    def __reduce__(self) -> tuple[Any, ...]:
        """As a process of a pool returns it: by its attributes, for ``args`` are what is printed."""
        return _revived, (type(self), self.args, self.__dict__)


def _revived(kind: type[NeurocompileError], args: tuple[Any, ...], found: dict[str, Any]) -> Any:
    error = kind.__new__(kind, *args)
    error.__dict__.update(found)
    return error


class ViolationList(NeurocompileError):
    """Several violations, reported at once, one line each.

    Args:
        code: of the first, and of all unless ``codes`` says otherwise.
        messages: one each.
        codes: of each message.
    """

    def __init__(self, code: str, messages: list[str], codes: list[str] | None = None) -> None:
        self.messages = tuple(_one_line(message) for message in messages)
        self.codes = tuple(codes or [code] * len(messages))
        rest = [f"\n{c} {m}" for c, m in zip(self.codes[1:], self.messages[1:], strict=True)]
        super().__init__(code, "")
        self.message = "".join([*self.messages[:1], *rest])
        self.args = (f"{code} {self.message}",)


def explain(code: str) -> str:
    """The title and explanation of ``code`` as text; unknown codes raise NC6001."""
    code = code.upper()
    if code not in CATALOGUE:
        raise NeurocompileError(
            "NC6001", f"there is no error code '{code}'; 'neurocompile explain' lists all"
        )
    title, text = CATALOGUE[code]
    return f"{code}: {title}\n\n{text}"


def not_importable(what: str, error: ImportError, extra: str) -> NeurocompileError:
    """NC4001: ``what`` needs a package that is not there, or that is and does not import, which
    another install does not mend.
    """
    missing = (error.name or "").partition(".")[0]
    install = f"pip install 'neurocompile[{extra}]'"
    if isinstance(error, ModuleNotFoundError) and missing in _OF_EXTRAS.get(extra, ()):
        return NeurocompileError("NC4001", f"{what} needs the package {missing}: {install}")
    return NeurocompileError(
        "NC4001", f"{what} needs packages that are there and do not import: {error}; see {install}"
    )


_OF_EXTRAS = (
    {"torch": ("torch", "spikingjelly", "onnxscript", "torchvision"), "gpu": ("torch",)}
    | {e: ("h5py",) for e in ("nir", "lava-dl", "events")}
    | {"slurm": ("submitit",)}
)
"""Packages that an extra installs."""


def argument(name: str, value: object = None) -> str:
    """An argument for a message, as Python has it, ```name=value```; the command line shows its
    flag (``neurocompile.cli.flags``).
    """
    return f"`{name}`" if value is None else f"`{name}={value!r}`"


def _one_line(message: str) -> str:
    """Names in a message come from files of strangers: nothing of them begins another line, speaks to
    a terminal, or fills it.
    """
    text = message if message.isprintable() else "".join(map(_printable, message))
    if len(text) <= _LONGEST:
        return text
    left_out = len(text) - 2 * _LONGEST // 3 - _LONGEST // 4
    return f"{text[: 2 * _LONGEST // 3]} [{left_out:,} letters left out] {text[-_LONGEST // 4 :]}"


def _printable(letter: str) -> str:
    return letter if letter.isprintable() else " " if letter.isspace() else "?"


_LONGEST = 1800
"""Letters of a line; what to do stands at its end."""


def shown(value: object) -> str:
    """``value``, cut: what is given in an option's place may be an array."""
    try:
        text = repr(value)
    except Exception:  # a repr of somebody's class
        text = f"a {type(value).__name__}"
    return text if len(text) < 80 and "\n" not in text else f"a {type(value).__name__}"
