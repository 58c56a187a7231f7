"""``flain layers``."""

from __future__ import annotations

from typing import Annotated

import typer

from flain_core.network import refused_layers
from flain_core.opening.registry import open_network

from . import display
from .models import opened
from .options import DebugOptions, ModelOptions


def layers(
    model: str,
    models: ModelOptions,
    debug: DebugOptions,  # noqa: ARG001
    json: Annotated[
        bool,
        typer.Option(
            "--json",
            rich_help_panel="What is shown",
            help="Write one JSON object to stdout, and nothing else.",
        ),
    ] = False,
) -> None:
    """List the layers that can be purified, and why others cannot.

    MODEL is a file: .npz, .onnx, .keras, .h5, or weights; or MODULE:FACTORY.
    """
    with display.only_what_was_asked_for(json=json):
        network = open_network(opened(model, models))
        found, refused = network.layers(), refused_layers(network)
    if not json:
        display.layers(found, refused)
        return
    told = {
        name: {
            "kind": layer.kind,
            "weight": list(layer.weight.shape),
            "groups": layer.groups,
            "input_neurons": layer.neurons,
        }
        for name, layer in found.items()
    }
    display.as_json({"layers": told, "refused": dict(refused)})
