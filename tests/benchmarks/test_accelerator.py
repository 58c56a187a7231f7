"""The check of an accelerator runs, tells other answers from the same ones, and skips itself."""

from dataclasses import replace

import accelerator
import pytest
import torch
import typer
from typer.testing import CliRunner

app = typer.Typer()
app.command()(accelerator.main)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_it_says_why_where_there_is_no_device():
    ran = CliRunner().invoke(app, [])
    assert ran.exit_code == 0
    assert "PyTorch sees no CUDA device" in ran.output


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_device_gives_the_answer_of_the_cpu():
    ran = CliRunner().invoke(app, ["--repeats", "1"])
    assert ran.exit_code == 0, ran.output


def test_other_flips_thresholds_and_scores_are_noticed():
    result = accelerator.with_torch().purified(None)
    accelerator.require_alike(result, result)
    (layer,) = result.layers
    flipped = layer.flipped.copy()
    flipped[0] = not flipped[0]
    step = replace(layer.steps[0], threshold=layer.steps[0].threshold + 1)
    for other in (
        replace(result, layers=(replace(layer, flipped=flipped),)),
        replace(result, layers=(replace(layer, steps=(step, *layer.steps[1:])),)),
        replace(result, layers=(replace(layer, share=layer.share + 0.01),)),
        replace(result, after=replace(result.after, clean=result.after.clean - 0.01)),
    ):
        with pytest.raises(accelerator.DifferError):
            accelerator.require_alike(result, other)


@pytest.mark.slow
def test_the_table_names_every_case():
    ran = CliRunner().invoke(app, ["--device", "cpu", "--repeats", "1"])
    assert ran.exit_code == 0, ran.output
    for case in accelerator._CASES:
        assert case in ran.output
