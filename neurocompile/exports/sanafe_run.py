"""Runs this folder in SANA-FE (pip install sanafe): spikes by population, packets and hops.

Written by neurocompile; it needs nothing of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def simulate(
    folder: str | Path, timing_model: str = "detailed"
) -> tuple[
    dict[str, Any], dict[str, Any], dict[str, list[tuple[int, int]]], dict[str, list[list[float]]]
]:
    """names.json, SANA-FE's result, the spikes of each group ((step of the sample, neuron) pairs), and the
    values of each group that the host reads (steps of the sample, neurons).
    """
    import sanafe  # type: ignore[import-untyped]

    folder = Path(folder)
    names = json.loads((folder / "names.json").read_text())
    chip_plan = sanafe.load_arch(str(folder / "architecture.yaml"))
    network = sanafe.load_net(str(folder / "network.yaml"), chip_plan)
    chip = sanafe.SpikingChip(chip_plan)
    chip.load(network)
    result = chip.sim(
        names["steps"],
        timing_model=timing_model,
        spike_trace=True,
        potential_trace=True,
        message_trace=True,
    )
    depth = {g["group"]: g["depth"] for g in names["groups"]}
    spikes: dict[str, list[tuple[int, int]]] = {g["group"]: [] for g in names["groups"]}
    for step, fired in enumerate(result["spike_trace"]):
        for neuron in fired:
            group = neuron.group_name
            if group in depth and 0 <= step - depth[group] < names["sample_steps"]:
                spikes[group].append((step - depth[group], neuron.neuron_offset))
    read, first = {}, 0
    for group in names["groups"]:
        if group["read"]:  # potentials come one group after another
            own = slice(group["depth"], group["depth"] + names["sample_steps"])
            last = first + group["size"]
            read[group["group"]] = [row[first:last] for row in result["potential_trace"][own]]
            first = last
    return names, result, spikes, read


def main(folder: str | Path = Path(__file__).parent) -> None:
    """Print what the run of ``folder`` sends."""
    names, result, spikes, read = simulate(folder)
    for group in names["groups"]:
        if group["read"]:
            sums = [sum(column) for column in zip(*read[group["group"]])]
            print(f"{group['population']}: sums over the sample {sums}")
            continue
        print(f"{group['population']}: {len(spikes[group['group']]):,} spikes")
    sent = [m for step in result["message_trace"] for m in step if not m["placeholder"]]
    host = {g["group"] for g in names["groups"] if g["on_host"]} | set(names["clocks"])
    own = [m for m in sent if m["src_neuron_group_id"] not in host]
    print(f"{len(own):,} messages of cores, {sum(m['hops'] for m in own):,} hops")
    print(f"{len(sent) - len(own):,} messages of the host")
    print(f"{result['energy']['total']:.3e} J, {result['sim_time']:.3e} s simulated")


if __name__ == "__main__":
    main()
