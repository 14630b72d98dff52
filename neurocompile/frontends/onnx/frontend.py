"""ONNX files through the door: read, neurons recovered where others wrote them, imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.calibration import calibration_from_metadata
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.diagnosis import module_class, module_path
from neurocompile.frontends.model import FloatModel
from neurocompile.frontends.onnx.importer import ImportedModel, import_onnx
from neurocompile.frontends.onnx.lif import DOMAIN
from neurocompile.frontends.onnx.load import LoadedModel, load_onnx, with_head
from neurocompile.frontends.onnx.precision import in_float32
from neurocompile.frontends.onnx.reference import OnnxReference
from neurocompile.options import BuildOptions
from neurocompile.progress import Stages

__all__ = ["OnnxFrontEnd", "import_model"]


class OnnxFrontEnd:
    """Any path: what is no ONNX file is refused by name."""

    def reads(self, model: Any) -> bool:
        """Whether ``model`` is a path."""
        return isinstance(model, Path)

    def content(self, model: Path) -> str:
        """Hash of the file and its external data, both checked as :meth:`open` does."""
        return load_onnx(model).sha256

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
        """See :class:`neurocompile.frontends.model.FrontEnd`."""
        with stages("import"):
            loaded, imported = import_model(
                model, options.T, per_sample_lif=options.per_sample_lif, head=options.head
            )
            return FloatModel(
                imported.graph,
                calibration_from_metadata(loaded.metadata),
                loaded.sha256,
                OnnxReference(loaded, imported),
                f"'{model}'",
                _modules(loaded),
                max(imported.graph.exported_T, 1),
                host=imported.host,
            )


def _modules(loaded: LoadedModel) -> dict[str, tuple[str, str]]:
    found = {}
    for node in loaded.proto.graph.node:
        path, name = module_path(node), node.name or next(filter(None, node.output), "")
        if path and path != name:
            found[name] = path, module_class(node)
    return found


def import_model(
    path: str | Path,
    T: int | None = None,
    *,
    per_sample_lif: bool = False,
    head: int | str | None = None,
) -> tuple[LoadedModel, ImportedModel]:
    """Read, check and import an ONNX file; its neurons are recovered if it has none of ours.

    Args:
        T: steps to write out where the file holds one step, with the membranes as inputs and
            outputs.
        per_sample_lif: a LIF over time and batch runs for each sample alone.
        head: the output to import, by name or number, if there are several.
    """
    loaded = in_float32(load_onnx(path))
    ours = any(node.domain == DOMAIN for node in loaded.proto.graph.node)
    if ours:
        from neurocompile.frontends.recover.pointwise import with_pointwise

        written = with_pointwise(with_head(loaded.proto, head))
        loaded = loaded.rewritten(written, recovered=False)
    else:
        from neurocompile.frontends.onnx.recover import recover_lif

        try:
            loaded = loaded.rewritten(recover_lif(loaded.proto, head=head))
        except NeurocompileError as error:
            if error.code != "NC1007" or T is None:  # NC1007: a file of one step
                raise
            loaded = loaded.rewritten(recover_lif(loaded.proto, T, head=head))
    return loaded, import_onnx(loaded, Path(path).stem, per_sample_lif=per_sample_lif)
