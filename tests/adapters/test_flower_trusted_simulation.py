"""Clean samples at trusted nodes, in Flower's own simulation."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from in_process import as_elsewhere

import flain_core as flain
import flain_numpy
from flain_cli import example
from flain_core.in_memory.scorer import LocalScorer
from flain_core.local_samples import LocalSamples

pytest.importorskip("flwr", reason="flwr is not installed")

pytestmark = pytest.mark.slow


def test_the_simulation_finds_what_a_serial_search_finds(tmp_path):
    files = example.files()
    script = Path(__file__).with_name("flower_trusted_simulation.py")
    paths = (Path(__file__).parents[1], os.environ.get("PYTHONPATH", ""))
    run = subprocess.run(
        [sys.executable, script, tmp_path],
        capture_output=True,
        text=True,
        timeout=500,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))},
    )
    assert run.returncode == 0, run.stderr
    # As a warning, and in Flower's log.
    assert run.stderr.count("is left out from now on: expected finite statistics") == 2
    assert run.stderr.count("is left out") == 2
    initial, final, auxiliary, *_ = files.paths
    expected = flain.purify(final, initial=initial, data=auxiliary, settings=as_elsewhere())
    np.testing.assert_array_equal(np.load(tmp_path / "sum.npy"), expected.layers[0].flipped)
    _, _, _, clean, triggered = files.paths
    held_out = LocalScorer(LocalSamples.of(clean, probes={"ASR": triggered}))
    before = held_out.score_of(flain_numpy.load(files.paths[1]))
    assert before.probes["ASR"].mean > 0.95
    # Merged by median with one in five who lies, and summed without the liar.
    for name in ("median", "sum"):
        with np.load(tmp_path / f"{name}.npz") as arrays:
            purified = flain_numpy.open_network(dict(arrays), like=flain_numpy.load(files.paths[0]))
        after = held_out.score_of(purified)
        assert after.probes["ASR"].mean <= 0.02
        assert after.clean.mean >= before.clean.mean - 0.01
