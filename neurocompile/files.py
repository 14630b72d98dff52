"""One reader and one writer for every file that a user names.

Inputs are regular files: a FIFO or a device would make a command wait for ever. Outputs appear
whole or not at all, on the disk and not only in its cache, with the rights that the user's umask
gives; a device or a FIFO in their place is refused, and so is a symbolic link, unless
:func:`through_links` asks to write the file that it names.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

from neurocompile.errors import NeurocompileError

__all__ = [
    "append_line",
    "as_path",
    "check_writable",
    "open_input",
    "read_input",
    "through_links",
    "write_output",
]

_through: ContextVar[bool] = ContextVar("through_links", default=False)


def as_path(value: object, code: str) -> Path:
    """``value`` as a path; ``code`` where it is none of text."""
    try:
        return Path(value)  # type: ignore[arg-type]
    except Exception as error:  # of another type, of bytes, or one whose __fspath__ raises
        raise NeurocompileError(
            code, f"a path is needed, text or pathlib.Path, not a {type(value).__name__}"
        ) from error


@contextlib.contextmanager
def open_input(path: str | Path, code: str = "NC1001") -> Iterator[BinaryIO]:
    """A regular file open for reading; ``code`` if it is something else or cannot be read.

    It is opened without waiting and looked at afterwards, so that nobody can put a FIFO in its
    place between the two.
    """
    path = as_path(path, code)
    try:
        handle = os.open(
            path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise NeurocompileError(code, f"cannot read '{path}': {_reason(error)}") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise NeurocompileError(code, f"cannot read '{path}': it is not a regular file")
    with os.fdopen(handle, "rb") as file:
        yield file


def read_input(path: str | Path, limit: int, code: str = "NC1001") -> bytes:
    """The bytes of a regular file of at most ``limit`` bytes; ``code`` otherwise."""
    with open_input(path, code) as file:
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise NeurocompileError(code, f"cannot read '{path}': {_reason(error)}") from error
    if len(data) > limit:
        raise NeurocompileError(
            code, f"cannot read '{path}': it is larger than {limit:,} bytes, the most that is read"
        )
    return data


@contextlib.contextmanager
def through_links(wanted: bool = True) -> Iterator[None]:
    """Within it, an output whose name is a symbolic link goes to the file that the link names; the
    link stays. Devices and FIFOs are refused all the same, behind a link too.
    """
    before = _through.set(wanted or _through.get())
    try:
        yield
    finally:
        _through.reset(before)


def check_writable(path: str | Path) -> Path:
    """``path``, or the file that it names within :func:`through_links`, if :func:`write_output` may
    write there; NC5005 otherwise, before any work.
    """
    path = as_path(path, "NC5005")
    try:
        if _through.get():
            path = path.resolve()
        mode = path.lstat().st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links in a circle
        raise NeurocompileError("NC5005", f"cannot write '{path}': {_reason(error)}") from error
    if stat.S_ISDIR(mode):
        why = "it is a folder; give a file name with -o"
    elif stat.S_ISLNK(mode):
        why = (
            f"it is a symbolic link to '{os.readlink(path)}'; name that file itself, or add `force`"
        )
    elif not stat.S_ISREG(mode):
        why = "it is a device, FIFO or socket; give the name of a regular file"
    elif not path.parent.is_dir():
        why = f"there is no folder '{path.parent}'; make it first"
    elif not os.access(path.parent, os.W_OK):
        why = f"no permission to write in '{path.parent}'"
    else:
        return path
    raise NeurocompileError("NC5005", f"cannot write '{path}': {why}")


def write_output(path: str | Path, content: bytes | Callable[[BinaryIO], None]) -> None:
    """Write ``content``, or what it writes, to ``path``: whole or not at all.

    A neighbour is written, brought to the disk and moved over ``path``. NC5005 if that fails;
    then nothing is left behind.
    """
    path = check_writable(path)
    part = path.with_name(f".{path.name[:200]}.{os.getpid()}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        with contextlib.suppress(FileNotFoundError):  # of a process that was killed
            os.unlink(part)
        handle = os.open(part, flags | getattr(os, "O_BINARY", 0), 0o666)  # less the umask
        try:
            with os.fdopen(handle, "wb") as file:
                if callable(content):
                    content(file)
                else:
                    file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise
        _sync_folder(path.parent)
    except (OSError, ValueError) as error:
        raise NeurocompileError("NC5005", f"cannot write '{path}': {_reason(error)}") from error


def append_line(path: str | Path, line: bytes) -> None:
    """Add a line to a regular file, which is made if it is not there; NC5005 if that fails.

    One write at the file's end, so that lines of processes beside each other stay whole.
    """
    path = as_path(path, "NC5005")
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    try:
        handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError(0, "it is not a regular file")
            if os.write(handle, line + b"\n") != len(line) + 1:
                raise OSError(0, "no space left")
        finally:
            os.close(handle)
    except (OSError, ValueError) as error:
        raise NeurocompileError("NC5005", f"cannot add to '{path}': {_reason(error)}") from error


def _sync_folder(folder: Path) -> None:
    """The new name on the disk, where the system can do that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
