"""Import lava-nc 0.10.0 on Python 3.10, 3.11 and 3.12, without touching its files or the caller's
process.

lava-nc declares ``python < 3.11`` for one reason only: a dataclass field whose default is an
instance of an unhashable dataclass (``ByteEncoder`` in ``lava.magma.compiler.var_model``), which
Python forbids since 3.11. With that one decorator corrected, Lava's own test suite gives the same
results on 3.11 as on 3.10. Lava is archived upstream, so this cannot be fixed there. A second thing
that importing Lava does is ``multiprocessing.set_start_method("fork")``, which fails where a start
method was chosen before and would force one on the caller where not: both are undone here.
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import sys

from neurocompile.errors import NeurocompileError

__all__ = ["require_lava"]

_MODULE = "lava.magma.compiler.var_model"
_BEFORE = "@dataclass\nclass ByteEncoder:"
_AFTER = "@dataclass(unsafe_hash=True)\nclass ByteEncoder:"
_INSTALL = 'uv sync --extra lava, or pip install --ignore-requires-python "neurocompile[lava]"'


def require_lava() -> None:
    """Make ``import lava...`` work in this process; NC4001 if Lava is not installed. Cheap after
    the first call.
    """
    if "lava.magma.core.process.process" in sys.modules:
        return
    try:
        found = importlib.util.find_spec("lava.magma.compiler")
        importlib.import_module("scipy.sparse")
    except ImportError:
        found = None
    if found is None:
        raise NeurocompileError(
            "NC4001", f"backend 'lava' needs lava-nc 0.10.0, which is not installed: {_INSTALL}"
        )
    _correct_byte_encoder()
    chosen = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(None, force=True)
    try:
        importlib.import_module("lava.magma.core.process.process")
    except ImportError as error:
        raise NeurocompileError(
            "NC4001", f"lava-nc is installed but does not import ({error}): {_INSTALL}"
        ) from error
    finally:
        multiprocessing.set_start_method(chosen, force=True)


def _correct_byte_encoder() -> None:
    """Load ``var_model`` with ``ByteEncoder`` hashable, on 3.11 and later; leave another Lava
    version alone.
    """
    if sys.version_info < (3, 11) or _MODULE in sys.modules:
        return
    spec = importlib.util.find_spec(_MODULE)
    source = spec.loader.get_source(_MODULE) if spec else None
    if source is None or _BEFORE not in source:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module
    try:
        exec(compile(source.replace(_BEFORE, _AFTER), spec.origin, "exec"), module.__dict__)
    except BaseException:
        del sys.modules[_MODULE]
        raise
    parent, _, name = _MODULE.rpartition(".")
    setattr(sys.modules[parent], name, module)
