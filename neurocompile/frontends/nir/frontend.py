"""The front end of NIR files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.discretization import parse_discretization
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.hdf5 import digest_of
from neurocompile.frontends.model import FloatModel
from neurocompile.frontends.nir.file import read_nir
from neurocompile.frontends.nir.graph import graph_of
from neurocompile.frontends.nir.plan import plan_nir
from neurocompile.frontends.nir.reference import NirReference
from neurocompile.options import BuildOptions
from neurocompile.progress import Stages

__all__ = ["NirFrontEnd"]


class NirFrontEnd:
    """See :class:`neurocompile.frontends.model.FrontEnd`."""

    by_samples = True

    def reads(self, model: Any) -> bool:
        """Files whose name ends in .nir."""
        return isinstance(model, Path) and model.suffix.lower() == ".nir"

    def open(
        self,
        model: Path,
        example_input: Any,
        options: BuildOptions,
        *,
        samples: np.ndarray | None,
        compare: bool,
        stages: Stages,
    ) -> FloatModel:
        """Import a file; samples (or an example) of one axis more than its input bring their own steps."""
        with stages("import"):
            origin = f"'{model}'"
            file = read_nir(model)
            plan = plan_nir(file, parse_discretization(options.discretize), origin)
            shape = tuple(
                int(n) for n in file.nodes[plan.steps[0].name].fields["shape"].reshape(-1)
            )
            given = np.shape(example_input if samples is None else samples)
            frames = len(given) == len(shape) + 2
            steps = given[1] if frames else options.T
            if steps is None:
                raise NeurocompileError(
                    "NC1007", f"{origin} does not say how many steps a sample has"
                )
            graph = graph_of(plan, model.stem, steps, shape, frames, origin)
        return FloatModel(
            graph=graph,
            statistics=None,
            sha256=digest_of(model),
            reference=NirReference(plan, steps, frames),
            origin=origin,
            own_T=steps if frames else None,
            options=options,
        )
