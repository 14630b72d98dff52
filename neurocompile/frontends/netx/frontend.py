"""The front end of lava-dl's .net files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.hdf5 import digest_of
from neurocompile.frontends.model import FloatModel
from neurocompile.frontends.netx.file import read_netx
from neurocompile.frontends.netx.graph import graph_of
from neurocompile.frontends.netx.plan import plan_netx
from neurocompile.frontends.netx.reference import NetxReference
from neurocompile.options import BuildOptions
from neurocompile.progress import Stages

__all__ = ["NetxFrontEnd"]


class NetxFrontEnd:
    """See :class:`neurocompile.frontends.model.FrontEnd`. The graph is of stage ``quantized``."""

    by_samples = True

    def reads(self, model: Any) -> bool:
        """Files whose name ends in .net."""
        return isinstance(model, Path) and model.suffix.lower() == ".net"

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
        """Import a file; samples (or an example) of one axis more than its input bring their own steps,
        as spikes do where there are no samples.
        """
        with stages("import"):
            origin = f"'{model}'"
            plan = plan_netx(read_netx(model), origin)
            given = np.shape(example_input if samples is None else samples)
            frames = len(given) == len(plan.shape) + 2 if given else not plan.weight
            steps = given[1] if frames and given else options.T or plan.steps
            if not steps:
                raise NeurocompileError(
                    "NC1007", f"{origin} does not say how many steps a sample has"
                )
            graph = graph_of(plan, model.stem, steps, frames)
        return FloatModel(
            graph=graph,
            statistics=None,
            sha256=digest_of(model),
            reference=NetxReference(plan, steps, frames),
            origin=origin,
            own_T=steps if frames else plan.steps,
            options=options,
        )
