"""The stages of a build as values: each has its graph, a text form, what it costs, and runs.

    imported = neurocompile.open("model.onnx", target="loihi2")
    canonical = imported.canonical()
    quantized = canonical.quantize(weight_bits=6)
    lowered = quantized.lower()
    program = lowered.map()

``compile`` is all of them. Every stage but the last computes logits and spikes of its own, from the
definition of its graph or, for a circuit, on the emulator: where two of them part, a wrong result
begins (docs/bisect.md).
"""

from neurocompile.stages.floating import Canonical, Imported
from neurocompile.stages.lowered import Lowered
from neurocompile.stages.quantized import Quantized
from neurocompile.stages.run import STAGES, import_stage, open_staged, run_stages, stages_from
from neurocompile.stages.stage import Costs, Stage

__all__ = [
    "STAGES",
    "Canonical",
    "Costs",
    "Imported",
    "Lowered",
    "Quantized",
    "Stage",
    "import_stage",
    "open_staged",
    "run_stages",
    "stages_from",
]
