"""A pytest plugin, found by its entry point: models as fixtures, parity as an assertion.

    def test_it_fits_and_is_exact(nc_program, nc_parity):
        program = nc_program("qkformer.onnx", T=4)
        assert program.mapping.cores_used <= 120
        nc_parity(program, images)

Nothing of neurocompile is imported before a fixture is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import numpy as np

    from neurocompile.parity.report import ParityReport
    from neurocompile.program import Program


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the group ``neurocompile``."""
    group = parser.getgroup("neurocompile")
    group.addoption(
        "--nc-target", default="loihi2", metavar="NAME|FILE", help="target that models compile for"
    )
    group.addoption(
        "--nc-backend",
        action="append",
        metavar="NAME",
        help="backend that nc_parity compares (may be repeated; by default emulator)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """The marker ``requires_loihi``."""
    config.addinivalue_line(
        "markers", "requires_loihi: runs on Loihi alone; skipped where Intel's extension is absent"
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a chip that is not here."""
    if item.get_closest_marker("requires_loihi") is None:
        return
    from neurocompile.errors import NeurocompileError

    try:
        from neurocompile.backends.lava.hardware import require_extension

        require_extension()
    except (NeurocompileError, ImportError) as error:
        pytest.skip(f"requires_loihi: {error}")


@pytest.fixture(scope="session")
def nc_program(pytestconfig: pytest.Config) -> Callable[..., Program]:
    """``nc_program(model, example_input=None, **options)``: a program, compiled once a session for
    ``--nc-target``; a path that ends in ``.nca`` is loaded.
    """
    known: dict[Any, Program] = {}

    def program(model: Any, example_input: Any = None, **options: Any) -> Program:
        import neurocompile

        if isinstance(model, (str, Path)) and str(model).endswith(".nca"):
            key: Any = str(model)
        else:
            options.setdefault("target", pytestconfig.getoption("--nc-target"))
            named = str(model) if isinstance(model, (str, Path)) else id(model)
            key = (named, id(example_input), repr(sorted(options.items(), key=lambda i: i[0])))
        if key not in known:
            known[key] = (
                neurocompile.load(model)
                if isinstance(key, str)
                else neurocompile.compile(model, example_input, **options)
            )
        return known[key]

    return program


@pytest.fixture(scope="session")
def nc_parity(pytestconfig: pytest.Config) -> Callable[..., ParityReport]:
    """``nc_parity(program, x, against=None)``: fails with the first difference of the backends of
    ``--nc-backend``.
    """
    chosen = tuple(pytestconfig.getoption("--nc-backend") or ("emulator",))

    def parity(
        program: Program, x: np.ndarray, against: Sequence[str] | None = None
    ) -> ParityReport:
        __tracebackhide__ = True
        from neurocompile.testing import assert_parity

        return assert_parity(program, x, chosen if against is None else against)

    return parity
