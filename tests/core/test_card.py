"""The section for a model card."""

from dataclasses import replace

import backdoored
import pytest

import flain_core as flain
import flain_numpy

CLEAN = backdoored.samples(300, seed=11)
ASR = backdoored.triggered(300, seed=12)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    paths = [folder / "initial.npz", folder / "final.npz"]
    for path, network in zip(paths, backdoored.networks(), strict=True):
        flain_numpy.save(network, path)
    return flain.purify(paths[1], initial=paths[0], data=CLEAN, probes={"ASR": ASR})


def test_a_card_says_what_a_reader_needs(result):
    card = result.card()
    assert card.startswith("## Purification\n")
    for part in (
        "**Verdict:** flipped: ",
        f"**Promise:** {result.promise}",
        f"`{result.unpurified}`",
        f"| ASR | {result.before.probes['ASR']:.4f} | {result.after.probes['ASR']:.4f} |",
        f"| clean samples | {result.before.clean:.4f} |",
        "| fc1 | directions |",
        '"measure": "probability"',
        f'"flain": "{flain.__version__}"',
        *result.files.values(),
        "### Limits",
    ):
        assert part in card, part


def test_a_card_without_a_promise_says_so(result):
    assert "**Promise:** none" in replace(result, promise=None).card()


def test_names_cannot_write_into_the_card(result):
    name = "fc1 | 0 |\n\n# Perfect\n<script>alert(1)</script> [x](http://y) `\u202eevil"
    card = replace(result, layers=(replace(result.layers[0], name=name),)).card()
    assert "# Perfect" not in [line.strip() for line in card.splitlines()]
    assert "<script>" not in card
    assert "[x](" not in card
    assert "\u202e" not in card
