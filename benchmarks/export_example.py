"""Exports the example's networks to ONNX, beside the `.npz` files that hold the same weights.

    python benchmarks/export_example.py FOLDER

FOLDER is the folder that train_example.py wrote. PyTorch's exporter is told to fold nothing, so the
files hold the tensors that were trained. The same versions give the same bytes.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import torch
import typer
from example_network import Network, Width
from mnist_samples import SIDE

import flain_numpy as fn
import flain_onnx
from flain_core.opening.registry import open_network

# This metadata says where each line of code was on the exporting machine.
LEFT_OUT = "pkg.torch.onnx.stack_trace"


def module_of(network: fn.Network, width: Width) -> Network:
    """The module that the network was taken from, in evaluation mode."""
    module = Network(width)
    module.load_state_dict(
        {
            f"{operation.name}.{part}": torch.tensor(getattr(operation, part))
            for operation in network.operations
            if isinstance(operation, (fn.Conv2d, fn.Dense))
            for part in ("weight", "bias")
        }
    )
    return module.eval()


def exported(module: Network) -> onnx.ModelProto:
    """The module as an ONNX model that reads `x` (n, 1, 28, 28) and returns `scores` (n, 10)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            module,
            (torch.zeros(2, 1, SIDE, SIDE),),
            input_names=["x"],
            output_names=["scores"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            dynamo=True,
            optimize=False,
            verbose=False,
        )
    model: onnx.ModelProto = program.model_proto
    for node in model.graph.node:
        kept = [entry for entry in node.metadata_props if entry.key != LEFT_OUT]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    return model


def export(folder: Path) -> None:
    """Writes `initial.onnx` and `final.onnx` for the `.npz` files in the folder."""
    record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    with np.load(folder / "clean.npz") as held_out:
        x = held_out["x"]
    for name in ("initial", "final"):
        network = fn.load(folder / f"{name}.npz")
        model = exported(module_of(network, Width(record["network"]["width"])))
        difference = np.abs(open_network(model).predict(x) - network.predict(x)).max()
        if difference > 1e-4:
            raise SystemExit(f"nothing written: the scores of {name} differ by {difference:.2g}")
        flain_onnx.save(model, folder / f"{name}.onnx", overwrite=True)


def main(
    folder: Annotated[Path, typer.Argument(file_okay=False, exists=True, help="The example.")],
) -> None:
    """Export the example's networks to ONNX."""
    export(folder)


if __name__ == "__main__":
    typer.run(main)
