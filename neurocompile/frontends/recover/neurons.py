"""Find the neurons of an unrolled file."""

from __future__ import annotations

import onnx

from neurocompile.errors import NeurocompileError, ViolationList
from neurocompile.frontends.recover.chains import Chain, chains_of, over_samples
from neurocompile.frontends.recover.equations import read_neuron
from neurocompile.frontends.recover.feedback import Earlier
from neurocompile.frontends.recover.forms import Neuron
from neurocompile.frontends.recover.graph import Graph, label_of
from neurocompile.frontends.recover.names import neuron_names
from neurocompile.frontends.recover.pointwise import count_each_step
from neurocompile.frontends.recover.staircases import find_staircases
from neurocompile.frontends.recover.steps import COMPARISONS, Step, StepReader

__all__ = ["find_neurons"]


def find_neurons(graph: Graph, unreset: bool = False, last: bool = True) -> list[Neuron]:
    """Every neuron of ``graph``, in the order of their first steps; with ``unreset`` also those
    that no spike resets; without ``last`` only those that another neuron reads.

    Raises:
        NeurocompileError: NC1003 for comparisons of signals that belong to no neuron, all of them
            at once; NC1009 for neurons that LIF cannot express.
    """
    reader, problems = StepReader(graph, unreset), []
    stairs = {found.value: found for found in find_staircases(graph)}
    inner = {value for found in stairs.values() for value in found.within}
    for node in list(graph.live()):
        compares = (
            node.op_type in COMPARISONS
            and not node.domain
            and node.output[0] in graph.dynamic
            and node.output[0] not in inner
        )
        if compares or node.output[0] in stairs:
            try:
                if compares:
                    reader.read(node)
                else:
                    reader.read_stairs(node, stairs[node.output[0]])
            except NeurocompileError as error:
                problems.append(error)
    _raise_all(problems)
    chains = chains_of(reader.steps)
    if not last:
        chains = _read_by_others(chains, graph)
    names = neuron_names(_own_nodes(chains), graph)
    longest = max(map(len, chains), default=0)
    _raise_all(over_samples(chains, longest, graph))
    chains, names = _with_memory(chains, names, graph)
    earlier = Earlier(graph, [[s.node.output[0] for s in chain] for chain in chains])
    neurons: list[Neuron] = []
    for k, (chain, name) in enumerate(zip(chains, names)):
        try:
            neurons.append(read_neuron(Chain(chain, name, k, graph, earlier)))
        except NeurocompileError as error:
            problems.append(error)
    _raise_all(problems)
    if reader.suspects and not unreset:
        graph.suspects = True
    _raise_all(
        [
            NeurocompileError(
                "NC1003",
                f"{label_of(chain[0].node)} starts a chain of {len(chain)} steps; other neurons have {longest}",
            )
            for chain in chains
            if len(chain) != longest
        ]
    )
    return neurons


def _own_nodes(chains: list[list[Step]]) -> list[list[onnx.NodeProto]]:
    """The comparisons of each chain, without a first step that it shares with one before it."""
    begun: set[int] = set()
    found = []
    for chain in chains:
        shared = id(chain[0]) in begun
        begun.add(id(chain[0]))
        found.append([step.node for step in chain[shared:]])
    return found


def _with_memory(
    chains: list[list[Step]], names: list[str], graph: Graph
) -> tuple[list[list[Step]], list[str]]:
    """The chains that say how many steps there are, and their names; counts without memory beside
    them become nodes where they stand.
    """
    kept = [len(chain) > 1 or chain[0].stairs is None for chain in chains]
    if not any(kept):
        return chains, names
    for chain, name, keeps in zip(chains, names, kept):
        if not keeps and (found := chain[0].stairs) is not None:
            count_each_step(found, name, graph)
    return (
        [chain for chain, keeps in zip(chains, kept) if keeps],
        [name for name, keeps in zip(names, kept) if keeps],
    )


def _read_by_others(chains: list[list[Step]], graph: Graph) -> list[list[Step]]:
    """The chains whose spikes reach another one."""
    own = {s.node.output[0]: k for k, chain in enumerate(chains) for s in chain}
    below: dict[str, int] = {}
    """Which chains a value depends on, a bit for each."""
    read = 0
    for node in graph.nodes:
        sources = 0
        for value in node.input:
            sources |= below.get(value, 0)
        for output in node.output:
            below[output] = sources
            if output in own:
                bit = 1 << own[output]
                read |= sources & ~bit
                below[output] = sources | bit
    return [chain for k, chain in enumerate(chains) if read >> k & 1]


def _raise_all(problems: list[NeurocompileError]) -> None:
    """All problems of the first one's kind."""
    if problems:
        code = problems[0].code
        raise ViolationList(code, [p.message for p in problems if p.code == code])
