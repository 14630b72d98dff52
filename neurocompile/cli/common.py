"""What every command shares: options, output as text or JSON, and errors as one line and an exit
code.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from neurocompile.cli.flags import as_flags
from neurocompile.cli.run_log import LOGGED, Log, append_record, check_log
from neurocompile.cli.streams import cannot_print, clean
from neurocompile.errors import NeurocompileError, ViolationList
from neurocompile.files import check_writable, through_links

__all__ = [
    "Artifact",
    "Backend",
    "Buffer",
    "Device",
    "Input",
    "Json",
    "MaybeInput",
    "Output",
    "Samples",
    "Sentences",
    "app",
    "check_output",
    "clean",
    "command",
    "device_name",
    "fail",
    "say",
]

Artifact = Annotated[
    Path, typer.Argument(metavar="ARTIFACT.nca", help="A compiled program.", show_default=False)
]
Buffer = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Messages that each queue of a router holds, for the time on the mesh (assumed); any number by default.",
        show_default=False,
    ),
]
Input = Annotated[
    Path, typer.Option("--input", metavar="X.npz", help="'x' (samples first), and 'y' if known.")
]
MaybeInput = Annotated[
    Path | None,
    typer.Option("--input", metavar="X.npz", help="'x' (samples first), and 'y' if known."),
]
Sentences = Annotated[
    list[str] | None,
    typer.Option(
        "--text", help="A sentence, for a program with a tokenizer; as often as you like."
    ),
]
Backend = Annotated[str, typer.Option(help="emulator, cores, lava, lava-runtime or loihi.")]


def device_name(name: str) -> str:
    """A device's name as it was given, or the line of the option."""
    from neurocompile.gpu.devices import check_device

    try:
        return check_device(name)
    except NeurocompileError:
        raise typer.BadParameter("choose cpu, cuda, cuda:N or torch-cpu") from None


Device = Annotated[
    str,
    typer.Option(
        "--device",  # typer 0.27 takes a metavar that is the name in capitals for the name
        metavar="DEVICE",
        callback=device_name,
        help="cuda (all GPUs), cuda:N or torch-cpu: torch evaluates the integers there, exactly.",
    ),
]
Samples = Annotated[
    int | None, typer.Option("--samples", min=1, metavar="N", help="Use only the first N samples.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, and nothing else.")]

Force = Annotated[
    bool,
    typer.Option("--force", help="Where the output is a symbolic link, write the file it names."),
]

TRACEBACK = "NEUROCOMPILE_TRACEBACK"
"""Environment variable that shows the traceback of a defect of neurocompile."""

said: list[dict[str, str]] = []
"""Notes and warnings of this call."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 all is well; 1 parity found a difference, or doctor a problem; 2 an error.",
)


@dataclass(frozen=True)
class Output:
    """What a command found."""

    data: Any
    """For --json: builtins and msgspec structs."""
    text: Iterable[Any]
    """Otherwise: strings and rich tables (a generator, so that nothing is laid out for --json)."""
    code: int = 0


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"neurocompile {version('neurocompile')}")
        raise typer.Exit


@app.callback()
def _neurocompile(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Compile trained spiking transformers to neuromorphic hardware, spike for spike."""


def command(function: Callable[..., Output]) -> Callable[..., None]:
    """Register a command of the function's name. Only its :class:`Output` reaches stdout: other
    prints go to stderr.
    """

    @functools.wraps(function)
    def wrapper(*args: Any, **options: Any) -> None:
        log, began = options.pop("log", None), time.time()
        with through_links(options.pop("force", False)):
            code, told, write = _call(function, args, options, log)
        if write is not None and told:
            try:
                append_record(write, function.__name__, options, code, began, told)
            except NeurocompileError as error:
                code, _ = fail(error, as_json=False)
        raise typer.Exit(code)

    writes = "output" in inspect.signature(function).parameters
    added: list[tuple[str, object, Any]] = [("force", False, Force)] if writes else []
    if function.__name__ in LOGGED:
        added.append(("log", None, Log))
    if added:
        _add_options(wrapper, function, added)
    return app.command(function.__name__)(wrapper)


def _call(
    function: Callable[..., Output], args: tuple[Any, ...], options: dict[str, Any], log: str | None
) -> tuple[int, str, Callable[[dict[str, Any]], object] | None]:
    """Exit code of a command, what ``--json`` prints where that or a ``log`` asks for it, and what
    takes the log's record.
    """
    as_json, told, write = options.get("json_output", False), "", None
    said.clear()
    try:
        with _warnings_as_lines(), contextlib.redirect_stdout(sys.stderr):
            if log is not None:
                write = check_log(log)
            output = function(*args, **options)
        if as_json or log is not None:
            told = _as_json(output)
        try:
            _emit(output, told if as_json else None)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise cannot_print(error) from error
        return output.code, told, write
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except BrokenPipeError:
        # nothing more to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141, told, write
    except KeyboardInterrupt:
        return 130, told, write
    except Exception as error:
        # the last resort of a program: nothing above main may see a traceback
        return *fail(error, as_json), write


def _add_options(
    wrapper: Callable[..., None],
    function: Callable[..., Output],
    added: Sequence[tuple[str, object, Any]],
) -> None:
    """Give ``wrapper`` options (name, default, type) behind those of ``function``."""
    given = inspect.signature(function, eval_str=True).parameters.values()
    alone = inspect.Parameter.KEYWORD_ONLY
    parameters = [p.replace(kind=alone) for p in given]
    parameters += [inspect.Parameter(n, alone, default=d, annotation=a) for n, d, a in added]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
    del wrapper.__wrapped__  # type: ignore[attr-defined]


def say(kind: str, text: object) -> None:
    """One line on stderr: ``kind: text``. Notes and warnings are under ``messages`` of ``--json``
    too.
    """
    if kind in ("note", "warning"):
        said.append({"kind": kind, "text": clean(text)})
    print(f"{kind}: {clean(text)}", file=sys.stderr, flush=True)


def check_output(path: Path, *inputs: Path | None) -> Path:
    """``path`` if a file can be written there that is none of the ``inputs``; NC5005 otherwise,
    before any work.
    """
    check_writable(path)
    if path.exists() and any(
        given is not None and given.exists() and path.samefile(given) for given in inputs
    ):
        raise NeurocompileError(
            "NC5005", f"cannot write '{path}': it is the input; give another name with -o"
        )
    return path


def _as_json(output: Output) -> str:
    """What ``--json`` prints."""
    told = json.dumps(output.data, default=_builtins)
    if "Infinity" in told or "NaN" in told:  # no JSON: null, as for what is unknown
        told = json.dumps(json.loads(told, parse_constant=lambda _: None))
    if said and told.startswith("{"):
        told = json.dumps({**json.loads(told), "messages": said})
    return as_flags(told) if "`" in told else told


def _emit(output: Output, told: str | None) -> None:
    """Print ``told`` if it is given, else the text."""
    if told is not None:
        print(told)
    else:
        for part in output.text:
            if isinstance(part, str):
                print("\n".join(clean(line) for line in part.split("\n")))
            else:
                from neurocompile.cli.tables import print_table

                print_table(part)
    sys.stdout.flush()


def _builtins(value: object) -> object:
    import msgspec

    return str(value) if isinstance(value, Path) else msgspec.to_builtins(value)


def fail(error: Exception, as_json: bool) -> tuple[int, str]:
    """Report ``error``: the line on stderr, with --json an object on stdout too; the exit code, and
    that object.
    """
    ours = isinstance(error, NeurocompileError) and error.code != "NC9001"
    if os.environ.get(TRACEBACK) and not ours:
        # with the cause, where a public function turned it into ours
        traceback.print_exception(error)
    if not isinstance(error, NeurocompileError):
        text = f"{type(error).__name__}: {error}; please report it ({TRACEBACK}=1 shows where)"
        error = NeurocompileError("NC9001", text)
    for line in str(error).split("\n"):
        say("error", line)
    details: dict[str, Any] = {} if error.details is None else {"details": error.details}
    if isinstance(error, ViolationList):
        pairs = zip(error.codes, error.messages, strict=True)
        details["violations"] = [{"code": c, "message": as_flags(m)} for c, m in pairs]
    found = {"code": error.code, "message": as_flags(error.message), **details}
    if error.layer:
        found["layer"] = error.layer
    told = json.dumps({"error": found})
    if as_json:
        print(told)
    return 2, told


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Show the warnings meant for users as ``warning: ...`` lines, each text once."""
    shown: set[str] = set()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        if str(message) not in shown:
            shown.add(str(message))
            say("warning", message)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield
