"""Table V's rows computed: what the circuits of the architectures do in an inference, priced under
every profile. Weights are random, normalizations fit to images: rates are measured, but of no
trained network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neurocompile.energy.activity import modelled_activity
from neurocompile.energy.ann import MAC_PJ, ann_macs
from neurocompile.energy.counts import COLUMNS, count_circuit
from neurocompile.energy.price import price, unpriced
from neurocompile.energy.profile import list_profiles, load_profile
from neurocompile.errors import NeurocompileError, not_importable, shown
from neurocompile.mapping.rates import modelled_rates
from neurocompile.passes.lower import lower
from neurocompile.passes.quantize import Quantize
from neurocompile.progress import Stages
from neurocompile.theory.experiments.claims import table5
from neurocompile.theory.experiments.paper import TABLE5
from neurocompile.theory.experiments.result import Result, Table

__all__ = ["ARCHITECTURES", "table5_of"]

ARCHITECTURES = {
    "spikformer-8-512": "Spikformer-8-512",
    "meta-spikeformer-8-512": "Meta-SpikeFormer",
    "qkformer-hst-10-768": "QKFormer",
    "spiking-resformer-l": "SpikingResformer",
}
"""Reference models, and the paper's row that each stands beside."""
_PART = 1 << 14
"""Weights of a layer that decide its scale: enough for counts."""


def table5_of(models: Sequence[str], progress: bool = False) -> Result:
    """The paper's claim, and beside it each of ``models``: reference models by name.

    Raises:
        NeurocompileError: NC6002 for a name that no model has, NC4001 without torch.
    """
    base, stages = table5(), Stages(progress)
    found = {}
    for name in models:
        with stages(name):
            found[name] = _work(name)
    profiles = list_profiles()
    claimed = {model: energy for model, _, energy in TABLE5}
    table = Table(
        "computed: dynamic energy of one inference in mJ without packets and hops (nothing is mapped), from measured rates of random weights "
        "with calibrated normalizations; NOT of trained networks, NOT hardware",
        (
            *("model", ">rate", ">spikes", ">operations", *(f">{p}" for p in profiles)),
            *(">ANN, 4.6 pJ a MAC", ">paper (claim)"),
        ),
        tuple(
            (
                name,
                f"{one['rate']:.3f}",
                f"{one['spikes'] / 1e6:,.1f} M",
                f"{one['operations'] / 1e9:,.2f} G",
                *(_millijoule(one["energy_pj"][p]) for p in profiles),
                _millijoule(one["ann_pj"]),
                claimed.get(ARCHITECTURES.get(name, ""), "none"),
            )
            for name, one in found.items()
        ),
    )
    notes = (
        *base.notes,
        "Rates of random weights are no trained network's: the count shows what the architecture does at such rates. Energy of a "
        "chip is proportional to operations, and these to rates, so a row may be rescaled by the rate of a trained model.",
        "Profiles price other things: horowitz45 arithmetic alone; keras-spiking no messages; see docs/energy.md.",
    )
    return Result(
        base.name,
        "the paper's energies (claim), and the architectures' circuits counted and priced",
        (*base.tables, table),
        notes,
        {**base.data, "computed": found},
    )


def _millijoule(pj: float) -> str:
    return f"{pj / 1e9:,.3f}"


def _work(name: str) -> dict[str, Any]:
    """Counts and energies of one inference."""
    try:
        import torch

        from neurocompile.models.random_weights import calibrated
        from neurocompile.models.registry import MODELS
    except ImportError as error:
        raise not_importable("a model with random weights", error, "torch") from error
    from neurocompile.build_steps import canonical_graph, statistics_of
    from neurocompile.frontends.door import open_model
    from neurocompile.options import BuildOptions
    from neurocompile.targets import load_target
    from neurocompile.targets.fields import ChipFields

    if name not in MODELS:
        raise NeurocompileError(
            "NC6002", f"no reference model {shown(name)}; there are {', '.join(MODELS)}"
        )
    config, chip = MODELS[name].config, load_target("hala_point")
    images = np.random.default_rng(0).integers(
        0, 256, (2, config.in_channels, config.image_size, config.image_size)
    )
    x = torch.from_numpy((images / 255).astype(np.float32))
    opened = open_model(
        calibrated(name, x), x, BuildOptions(), calibration=x[:1].numpy(), compare=False
    )
    canonical, T = canonical_graph(opened, chip), opened.options.steps
    statistics = statistics_of(opened, canonical, "torch-cpu")
    quantizer = Quantize(T, statistics, most_weights=_PART, fields=ChipFields.of(chip))
    circuit = lower(quantizer(canonical), T, 8)
    rows = count_circuit(
        circuit, modelled_activity(circuit, modelled_rates(circuit, statistics), "")
    )
    totals = dict(zip(COLUMNS, rows.sum(axis=0).tolist(), strict=True))
    totals |= {"inactive": totals["updates"] - totals["active"], "barriers": 0.0}
    spiking = sum(p.size for p in circuit.populations if p.spiking) * T
    macs = ann_macs(canonical)
    return {
        "T": T,
        "rate": totals["spikes"] / spiking,
        "neurons": totals["neurons"],
        "spikes": totals["spikes"],
        "operations": sum(totals[f"synops_{k}"] for k in ("dense", "sparse", "convolution")),
        "energy_pj": {p: float(price(load_profile(p), rows).sum()) for p in list_profiles()},
        "not_priced": {p: unpriced(load_profile(p), totals) for p in list_profiles()},
        "ann_macs": macs,
        "ann_pj": macs * MAC_PJ,
    }
