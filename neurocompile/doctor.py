"""What this machine can do: each check is OK, absent (optional; how to get it) or problem (what to
do).
"""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from neurocompile.errors import NeurocompileError

__all__ = ["Check", "diagnose"]

CORE = (
    "numpy",
    "onnx",
    "onnxruntime",
    "numba",
    "msgspec",
    "pyyaml",
    "safetensors",
    "typer",
    "rich",
)
"""Distributions that neurocompile always needs."""
EXTRAS = {
    "torch": ("torch", "spikingjelly", "onnxscript"),
    "lava": ("lava-nc", "networkx", "scipy"),
    "plot": ("matplotlib",),
}
"""Distributions of each extra."""
_MODULES = {"pyyaml": "yaml"}
_FIRST, _LAST = (3, 10), (3, 12)
_RUNTIME_PROCESSES = 256
"""Processes of Lava's runtime to ask for: the shipped qkformer_digits takes about 150."""


@dataclass(frozen=True)
class Check:
    """One line of the report; ``advice`` is empty if nothing need be done."""

    name: str
    status: Literal["OK", "absent", "problem"]
    found: str
    advice: str = ""


def diagnose() -> list[Check]:
    """All checks, in the order to read them. Imports what it checks, so it takes some seconds."""
    extras = [_extra(name) for name in EXTRAS]
    return [
        _python(),
        Check("neurocompile", "OK", _version("neurocompile") or "from a source tree"),
        *(_core(name) for name in CORE),
        *extras,
        _lava(),
        _loihi(),
        _gpu(),
        _kernels(),
        _stages(),
        _file_descriptors(),
        _processors(),
    ]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _python() -> Check:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    found = f"{python} on {platform.system()} {platform.machine()}"
    if _FIRST <= sys.version_info[:2] <= _LAST:
        return Check("python", "OK", found)
    return Check(
        "python", "problem", found, "neurocompile supports 3.10 to 3.12: uv venv --python 3.11"
    )


def _core(name: str) -> Check:
    found = _version(name)
    if found is None:
        return Check(name, "problem", "not installed", f"pip install {name}")
    why = _import(_MODULES.get(name, name))
    if why:
        return Check(name, "problem", f"{found}, does not import: {why}", "install it again")
    return Check(name, "OK", found)


def _import(module: str) -> str:
    """Why ``module`` does not import; empty if it does."""
    try:
        import_module(module)
    except Exception as error:  # a broken library may raise anything while it is imported
        return f"{type(error).__name__}: {error}"
    return ""


def _extra(name: str) -> Check:
    found = {package: _version(package) for package in EXTRAS[name]}
    text = ", ".join(f"{package} {number or 'absent'}" for package, number in found.items())
    if all(found.values()):
        return Check(f"extra {name}", "OK", text)
    return Check(
        f"extra {name}",
        "absent",
        text,
        f"uv sync --extra {name}, or pip install 'neurocompile[{name}]'",
    )


def _lava() -> Check:
    number = _version("lava-nc")
    found = f"lava-nc {number}, through neurocompile's loader"
    return _tried(
        "lava imports", "absent" if number is None else "problem", "compat", "require_lava", found
    )


def _loihi() -> Check:
    return _tried(
        "loihi 2",
        "absent",
        "hardware",
        "require_extension",
        "Intel's lava-loihi extension is installed",
    )


def _tried(
    name: str, otherwise: Literal["absent", "problem"], module: str, require: str, found: str
) -> Check:
    """OK if function ``require`` of a module of the Lava backend passes; its message otherwise."""
    try:
        getattr(import_module(f"neurocompile.backends.lava.{module}"), require)()
    except NeurocompileError as error:
        return Check(name, otherwise, error.message, f"neurocompile explain {error.code}")
    except Exception as error:  # see _import
        return Check(
            name, "problem", f"{type(error).__name__}: {error}", "install the extra lava again"
        )
    return Check(name, "OK", found)


def _gpu() -> Check:
    if _version("torch") is None:
        return Check(
            "gpu",
            "absent",
            "not looked for: torch is not installed",
            "only `device='cuda'` needs one",
        )
    why = _import("torch")
    if why:
        return Check(
            "gpu", "problem", f"torch does not import: {why}", "install the extra torch again"
        )
    import torch

    if not torch.cuda.is_available():
        return Check(
            "gpu",
            "absent",
            f"torch {torch.__version__} finds none",
            "only `device='cuda'` needs one",
        )
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return Check("gpu", "OK", names)


def _kernels() -> Check:
    """Whether compiled kernels are kept on disk."""
    why = _import("neurocompile.mapping.placement_kernels")
    if why:
        return Check("kernels", "problem", f"they do not import: {why}", "install numba again")
    from neurocompile.jit import not_kept
    from neurocompile.mapping.placement_kernels import _anneal

    folder = _anneal.stats.cache_path
    if folder is None or not_kept():
        return Check(
            "kernels",
            "absent",
            f"compiled anew in every process (some 10 s): {not_kept() or 'no cache'}",
            "set NUMBA_CACHE_DIR to a folder that can be written",
        )
    return Check("kernels", "OK", f"kept in {folder}")


def _stages() -> Check:
    """Whether finished stages of builds are kept on disk."""
    why = _import("neurocompile.stage_cache")
    if why:
        return Check("stage cache", "problem", f"it does not import: {why}", "install numpy again")
    from neurocompile.stage_cache import FOLDER, opened

    found = opened()
    if found.folder is None:
        advice = f"set {FOLDER} to a folder of yours that only you can write"
        return Check("stage cache", "absent", f"nothing is kept: {found.why}", advice)
    return Check("stage cache", "OK", f"at most {found.limit / 1e9:g} GB in {found.folder}")


def _file_descriptors() -> Check:
    name = "open files"
    try:
        import resource

        from neurocompile.backends.lava.runtime import check_file_descriptors
    except ImportError as error:
        return Check(
            name,
            "absent",
            f"cannot be read: {error}",
            "lava-runtime needs Linux or macOS, and numpy",
        )
    soft, hard = (
        "unlimited" if n == resource.RLIM_INFINITY else f"{n:,}"
        for n in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    limits = f"limit {soft}, at most {hard}"
    try:
        check_file_descriptors(_RUNTIME_PROCESSES)
    except NeurocompileError as error:
        return Check(
            name, "problem", f"{limits}: {error.message}", "raise it, or use the backend lava"
        )
    return Check(
        name, "OK", f"{limits}: enough for lava-runtime with {_RUNTIME_PROCESSES} processes"
    )


def _processors() -> Check:
    count = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return Check("processors", "OK", f"{count} usable")
