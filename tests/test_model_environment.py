from __future__ import annotations

import os
import subprocess
import sys

import pytest

from labelstream.actors.model_environment import model_environment
from labelstream.schemas.model_settings import EncoderSettings, LabellerSettings

# Inputs of 200 heights through one layer, then the last and the first of them again. oneDNN says what it does.
OF_MANY_SHAPES = """
import torch
weight = torch.ones(4, 4, 3, 3)
for height in (*range(10, 210), 209, 10):
    torch.nn.functional.conv2d(torch.ones(4, 4, height, 10), weight)
"""


def compiled_or_kept(environment: dict[str, str]) -> list[bool]:
    """Whether oneDNN had each kernel already."""
    run = subprocess.run(
        [sys.executable, "-c", OF_MANY_SHAPES],
        env=os.environ | environment | {"ONEDNN_VERBOSE": "profile_create"},
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    created = [line for line in run.stdout.splitlines() if ",create:cache_" in line and ",convolution," in line]
    return ["cache_hit" in line for line in created]


@pytest.mark.parametrize("settings", [LabellerSettings(), EncoderSettings()])
def test_kernels_of_shapes_long_past_are_given_up(settings: LabellerSettings | EncoderSettings):
    *first, again, long_past = compiled_or_kept(model_environment(settings))
    assert len(first) == 200
    assert not any(first)
    assert again
    assert not long_past


def test_on_a_gpu_the_processor_s_libraries_are_left_alone():
    of_processor = {"OMP_NUM_THREADS", "OMP_WAIT_POLICY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"}
    assert not of_processor & set(model_environment(LabellerSettings(gpus=1)))
