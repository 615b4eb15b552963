"""What a build in its own process loads and does once: by importing this, a process that others are
forked off does it for all of them, which saves each some seconds. Tracing is a part of it: the
network is the same in every trial."""

from __future__ import annotations

import importlib
import sys

import torch

import circuit_atlas.cluster.progress
import circuit_atlas.cluster.visualizations
import circuit_atlas.jobs.tasks.worker
import circuit_atlas.jobs.visualization.worker
import circuit_atlas.service.commands.cli
import circuit_atlas.service.compute.build  # noqa: F401
from circuit_atlas.jobs.network.export import Trace, trace
from circuit_atlas.jobs.tasks import opened_spec
from tests.chaos.subject import CODE, SIDE, VISUALIZED_SIDE

torch.set_num_threads(1)
sys.path.insert(0, str(CODE))
_network = importlib.import_module("chaos_network").network().eval()
# Written down, as a graph that is made of a trace takes it to pieces.
_traces = {
    shape: trace(_network, shape).to_bytes()
    for shape in ((3, side, side) for side in (SIDE, VISUALIZED_SIDE))
}
opened_spec.trace = lambda _, shape: Trace.of_bytes(_traces[tuple(shape)])
