"""The command for whoever has a GPU, tried on a machine that has none."""

from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner

from tests.gpu import main


def test_its_work_runs():
    ended = CliRunner().invoke(main, ["--device", "cpu", "--small"], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    assert ended.output.startswith("actgrad, SqueezeNet features.7.expand3x3: ")
    assert "times as fast" in ended.output


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch finds a CUDA GPU here")
def test_without_a_gpu_it_says_so():
    ended = CliRunner().invoke(main, [])
    assert ended.exit_code == 1
    assert ended.output == "Error: torch finds no CUDA GPU here\n"
