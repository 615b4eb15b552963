"""Several layers of one model computed together, so that what they share is run once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from circuit_atlas.jobs.network.layer_network import Network, SizeNode
from circuit_atlas.jobs.network.step import Step


def joined(networks: Sequence[Network]) -> Network:
    """Joins the networks of layers of one traced model into one that computes all of them.

    Steps of one name give the same values in each. The result's own layer is one of the deepest;
    the others' targets are seen on the way, by `Network.output(seen=...)`. Its sites are those of
    that layer alone.
    """
    deepest = max(networks, key=lambda network: len(network.steps))
    steps: dict[str, Step] = {}
    sizes: dict[str, SizeNode] = {}
    # The deepest last: a network ends in the step of its own layer.
    for network in (*(one for one in networks if one is not deepest), deepest):
        for step in network.steps:
            steps.setdefault(step.name, step)
        for node in network.sizes.nodes:
            sizes.setdefault(node[0], node)
    steps[deepest.target.name] = steps.pop(deepest.target.name)
    return replace(
        deepest,
        steps=tuple(steps.values()),
        sizes=replace(deepest.sizes, nodes=tuple(sizes.values())),
        by_name=steps,
        measured={},
    )
