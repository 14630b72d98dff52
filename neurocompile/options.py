"""What a user may ask of a build: one value, checked once, that every command and an artifact's
manifest hold.

An option is one field: its annotation says how it is checked, what the command line calls it and
tells of it, and whether it concerns the model (every command that reads one takes it) or its
mapping.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from numbers import Integral
from os import PathLike
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypedDict,
    TypeVar,
    get_args,
    get_type_hints,
)

import msgspec

from neurocompile.errors import NeurocompileError, shown
from neurocompile.files import as_path

if TYPE_CHECKING:
    from neurocompile.targets.schema import Target

__all__ = ["LARGEST_T", "BuildOptions", "GivenOptions", "OptionField", "takes_options"]

LARGEST_T = 1 << 16
"""Steps of a sample."""

Concerns = Literal["model", "mapping"]
Check = Callable[[str, Any], Any]
"""(name, value) -> the value to keep, or NeurocompileError."""


@dataclass(frozen=True)
class About:
    """Of a field: how it is checked, and what the command line says of it."""

    concerns: Concerns
    check: Check
    help: str
    metavar: str | None = None


def _whole(code: str, low: int, high: int, optional: bool = True) -> Check:
    """An integer (numpy's too) within ``low``..``high``, or None where that is ``optional``."""

    def check(name: str, value: Any) -> int | None:
        if value is None and optional:
            return None
        if (
            isinstance(value, bool)
            or not isinstance(value, Integral)
            or not low <= int(value) <= high
        ):
            raise NeurocompileError(
                code, f"{name} is {shown(value)}; an integer from {low:,} to {high:,} is needed"
            )
        return int(value)

    return check


def _one_of(*values: str) -> Check:
    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in values:
            raise NeurocompileError(
                "NC1015", f"{name} is {shown(value)}; {', '.join(values)} are possible"
            )
        return value

    return check


def _switch(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise NeurocompileError("NC1015", f"{name} is {shown(value)}; True or False is needed")
    return value


def _name_or_path(name: str, value: Any) -> str:
    if isinstance(value, PathLike):
        value = str(as_path(value, "NC3001"))
    if not isinstance(value, str) or not value:
        raise NeurocompileError(
            "NC3001", f"{name} is {shown(value)}; the name of a target or a path is needed"
        )
    return value


def _fold(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise NeurocompileError(
            "NC1015", f"{name} is {shown(value)}; auto, none or a fold such as 1x32 is needed"
        )
    if value in ("auto", "none"):
        return value
    from neurocompile.folding.schedules import Fold

    return str(Fold.parse(value))


def _output(name: str, value: Any) -> int | str | None:
    if value is None or isinstance(value, str) and value:
        return value
    if isinstance(value, bool) or not isinstance(value, Integral) or not 0 <= int(value) < 1 << 31:
        raise NeurocompileError(
            "NC1015",
            f"{name} is {shown(value)}; the name of an output, or its number from 0, is needed",
        )
    return int(value)


def _spikes(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise NeurocompileError(
            "NC8008", f"{name} is {shown(value)}; 'epsilon=E' or 'spikes=N' is needed"
        )
    from neurocompile.mapping.budget import parse_budget

    return parse_budget(value).text


def _discretization(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise NeurocompileError("NC1015", f"{name} is {shown(value)}; a framework's name is needed")
    from neurocompile.discretization import parse_discretization

    found = parse_discretization(value)
    return None if found is None else found.text


def _objective(name: str, value: Any) -> str | None:
    return None if value is None else _one_of("packets", "time", "energy")(name, value)


class BuildOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What decides a build, but for data. Options that are None are settled by the model (``T``) or
    the target (``weight_bits``); an artifact's manifest holds them settled.

    Raises:
        NeurocompileError: NC1007 (T), NC2003 (weight_bits), NC3001 (target), NC8008 (budget),
            NC1015 (any other) for a value of a wrong type or out of range.
    """

    target: Annotated[
        str, About("model", _name_or_path, "A name that 'targets' lists, or a YAML file.")
    ] = "loihi2"
    T: Annotated[
        int | None,
        About(
            "model",
            _whole("NC1007", 1, LARGEST_T),
            "Simulation steps of one sample; by default the model's own.",
            "N",
        ),
    ] = None
    weight_bits: Annotated[
        int | None,
        About(
            "model",
            _whole("NC2003", 2, 8),
            "2 to 8, sign included; by default 8, or the target's if it has fewer.",
            "N",
        ),
    ] = None
    rounding: Annotated[
        str,
        About(
            "model",
            _one_of("nearest", "compensated"),
            "Of weights: each to the nearest, or so that the errors of a sum's weights make up for "
            "each other on calibration data, which 6 bits and fewer gain by.",
            "nearest|compensated",
        ),
    ] = "nearest"
    digits: Annotated[
        int,
        About(
            "model",
            _whole("NC2003", 4, 12, optional=False),
            "4 to 12 binary digits of real values that are multiplied (LayerNorm, softmax of a step, "
            "products of two real signals).",
            "N",
        ),
    ] = 10
    grids: Annotated[
        int,
        About(
            "model",
            _whole("NC1015", 0, 1 << 20, optional=False),
            "Scales of their own that the channels of a layer keep at most where their weights lie on "
            "them (quantization-aware training); each is a neuron group, of which a core holds few.",
            "N",
        ),
    ] = 8
    seed: Annotated[
        int,
        About(
            "mapping",
            _whole("NC1015", 0, (1 << 32) - 1, optional=False),
            "Of placement and of the recorded proof.",
            "N",
        ),
    ] = 0
    max_cores: Annotated[
        int | None,
        About("mapping", _whole("NC1015", 1, 1 << 32), "Use at most so many cores.", "N"),
    ] = None
    fold: Annotated[
        str,
        About(
            "mapping",
            _fold,
            "Fold in time: ROWSxCOLUMNS of the input in a window (1x32; 1x32s: one buffer for "
            "attention; 1x32c: clocks on the chip), none, or auto: the fewest steps a sample that fit.",
            "auto|none|RxC",
        ),
    ] = "auto"
    max_steps: Annotated[
        int | None, About("mapping", _whole("NC1015", 1, 1 << 32), "Of a sample, when folded.", "N")
    ] = None
    budget: Annotated[
        str | None,
        About(
            "mapping",
            _spikes,
            "Spikes that the theory grants: one more capacity of a core.",
            "epsilon=E|spikes=N",
        ),
    ] = None
    discretize: Annotated[
        str | None,
        About(
            "model",
            _discretization,
            "Of a NIR file, which holds time constants and no steps: whose steps are taken, with "
            "dt=SECONDS and reset=zero or subtract where they are not that framework's own.",
            "euler|snntorch|norse|sinabs[,dt=S][,reset=R]",
        ),
    ] = None
    optimize: Annotated[
        str | None,
        About(
            "mapping",
            _objective,
            "Refine the mapping on the messages that calibration samples send, counted neuron by neuron, "
            "for fewer packets, a shorter step or less energy.",
            "packets|time|energy",
        ),
    ] = None
    per_sample_lif: Annotated[
        bool, About("model", _switch, "Run a LIF over time and batch for each sample alone.")
    ] = False
    head: Annotated[
        int | str | None,
        About("model", _output, "Of several outputs: a name, or a number from 0.", "NAME"),
    ] = None
    convolutions: Annotated[
        str,
        About(
            "model",
            _one_of("auto", "merge", "factor"),
            "Of convolutions without a neuron between them (RepConv): merge to one, keep each "
            "factor, or what takes fewer cores.",
            "auto|merge|factor",
        ),
    ] = "auto"

    def __post_init__(self) -> None:
        for field in BuildOptions.fields():
            value = getattr(self, field.name)
            kept = field.about.check(field.name, value)
            if kept is not value:
                msgspec.structs.force_setattr(self, field.name, kept)

    @staticmethod
    @cache
    def fields() -> tuple[OptionField, ...]:
        """Every option, in order."""
        hints = get_type_hints(BuildOptions, include_extras=True)
        found = []
        for field in msgspec.structs.fields(BuildOptions):
            kind, *more = get_args(hints[field.name])
            (about,) = (m for m in more if isinstance(m, About))
            found.append(OptionField(field.name, kind, field.default, about))
        return tuple(found)

    @staticmethod
    def of(options: BuildOptions | None, given: Mapping[str, object]) -> BuildOptions:
        """``options`` with what is ``given`` by name in its place; NC1015 for a name that no option
        has.
        """
        if options is not None and not isinstance(options, BuildOptions):
            raise NeurocompileError(
                "NC1015", f"options is {shown(options)}; a neurocompile.BuildOptions is needed"
            )
        known = [field.name for field in BuildOptions.fields()]
        for name in given:
            if name not in known:
                close = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
                raise NeurocompileError("NC1015", f"there is no option {name!r}; {hint}")
        return msgspec.structs.replace(options or BuildOptions(), **given)

    def settled(self, T: int, target: Target) -> BuildOptions:
        """With nothing left open: ``T`` steps, the target by its own name, and as many weight bits
        as it has (2 to 8, which is what the quantizer makes).
        """
        bits = self.weight_bits or min(max(target.synapse.weight_bits.high, 2), 8)
        return msgspec.structs.replace(self, T=T, target=target.name, weight_bits=bits)

    def of_model(self, *but: str) -> dict[str, int | str | bool | None]:
        """Values of the options that concern the model, whose integers they decide, ``but`` some."""
        fields = [f.name for f in BuildOptions.fields() if f.about.concerns == "model"]
        return {name: getattr(self, name) for name in fields if name not in but}

    @property
    def steps(self) -> int:
        """``T`` of settled options."""
        return _set("T", self.T)

    @property
    def bits(self) -> int:
        """``weight_bits`` of settled options."""
        return _set("weight_bits", self.weight_bits)


class GivenOptions(TypedDict, total=False):
    """Fields of :class:`BuildOptions` as keywords, for type checkers and editors: what functions
    take as ``**given: Unpack[GivenOptions]``.
    """

    target: str | PathLike[str]
    T: int | None
    weight_bits: int | None
    rounding: str
    digits: int
    grids: int
    seed: int
    max_cores: int | None
    fold: str
    max_steps: int | None
    budget: str | None
    discretize: str | None
    optimize: str | None
    per_sample_lif: bool
    head: int | str | None
    convolutions: str


def _set(name: str, value: int | None) -> int:
    if value is None:
        raise NeurocompileError("NC9001", f"{name} was read before it was settled")
    return value


@dataclass(frozen=True)
class OptionField:
    """One option: its name, type and default, and what is said of it."""

    name: str
    kind: Any
    default: Any
    about: About


_Function = TypeVar("_Function", bound=Callable[..., Any])


def takes_options(function: _Function) -> _Function:
    """Let ``help`` and editors show the options that ``function`` takes as keywords (``**given``)."""
    signature = inspect.signature(function)
    parameters = []
    for parameter in signature.parameters.values():
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            parameters.append(parameter)
            continue
        parameters += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=field.kind,
            )
            for field in BuildOptions.fields()
        ]
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return function
