"""What a build in its own process loads and does once: by importing this, a process that others are
forked off does it for all of them, which saves each some seconds."""

from __future__ import annotations

import torch

import circuit_atlas.cluster.progress
import circuit_atlas.cluster.visualizations
import circuit_atlas.jobs.tasks.worker
import circuit_atlas.jobs.visualization.worker
import circuit_atlas.service.commands.cli
import circuit_atlas.service.compute.build  # noqa: F401
from circuit_atlas.jobs.network.export import trace

torch.set_num_threads(1)
trace(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).eval(), (3, 6, 6)).to_bytes()
