"""Measures purifications of large models: seconds, memory added, and forward passes spent.

    python benchmarks/sizes.py

The weights are random, as time and memory do not depend on them; a backdoor is not looked for. Each
case runs in a process of its own, by the probability, as a trained model does. What cannot run here
says why. It writes benchmarks/results/sizes.json. Linux only, as peaks of memory are the kernel's.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from memory import MIB, resident
from random_models import BY_PROBABILITY
from rich.console import Console
from rich.table import Table
from torch import nn

import flain
from flain_core.blocks import give_back_freed
from flain_core.opening import registry

GIB = 2**30
app = typer.Typer(add_completion=False)
_seen = 0


class NotHereError(Exception):
    """A case cannot run on this machine; the text says why."""


@dataclass(frozen=True)
class Case:
    """A model to be purified.

    Attributes:
        initial: As training started.
        final: As it ended.
        shape: Of the samples.
        layer: What is purified.
        scores: Returns the scores of a batch; None calls the model.
    """

    initial: Any
    final: Any
    shape: tuple[int, ...]
    layer: str
    scores: Callable[[np.ndarray[Any, Any]], Any] | None = None


def vgg16(_: Path) -> Case:
    """The dense part of VGG-16, of which the first layer is purified."""
    network = nn.Sequential(
        *(nn.Linear(25_088, 4_096), nn.ReLU()),
        *(nn.Linear(4_096, 4_096), nn.ReLU(), nn.Linear(4_096, 1_000)),
    )
    return trained(network, (400, 25_088), "0")


def resnet50(_: Path) -> Case:
    """ResNet-50 at 224 × 224, of which the last convolution is purified."""
    from transformers import ResNetConfig, ResNetForImageClassification

    network = ResNetForImageClassification(ResNetConfig())
    convolutions = [name for name, each in network.named_modules() if isinstance(each, nn.Conv2d)]
    return trained(network, (100, 3, 224, 224), convolutions[-1])


def vit(_: Path) -> Case:
    """ViT-B/16, of which the first layer of the last block's MLP is purified."""
    from transformers import ViTConfig, ViTForImageClassification

    network = ViTForImageClassification(ViTConfig())
    wide = [
        name
        for name, each in network.named_modules()
        if isinstance(each, nn.Linear) and each.out_features == ViTConfig().intermediate_size
    ]
    return trained(network, (100, 3, 224, 224), wide[-1])


def onnx_file(folder: Path) -> Case:
    """An ONNX file of more than 2 GB, with its tensors beside it."""
    from onnx import TensorProto, helper

    if shutil.disk_usage(folder).free < 8 * GIB:
        raise NotHereError("it needs 8 GB on the disk of temporary files")
    rng = np.random.default_rng(0)
    inputs, wide = 16_384, 34_000
    large = rng.standard_normal((wide, inputs), dtype=np.float32) / np.float32(inputs**0.5)
    head = rng.standard_normal((10, wide), dtype=np.float32)
    nodes = [
        helper.make_node("Gemm", ["x", "large"], ["hidden"], name="large", transB=1),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "head"], ["scores"], name="head", transB=1),
    ]
    paths = []
    for name in ("initial", "final"):
        if name == "final":
            for rows in range(0, wide, 1000):
                large[rows : rows + 1000] *= np.float32(1.3)
        graph = helper.make_graph(
            nodes,
            "large",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", inputs])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 10])],
            [
                beside(folder / f"{name}-{tensor}.data", tensor, values)
                for tensor, values in (("large", large), ("head", head))
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        paths.append(folder / f"{name}.onnx")
        paths[-1].write_bytes(model.SerializeToString())
    return Case(
        paths[0],
        paths[1],
        (200, inputs),
        "large",
        lambda x: np.maximum(x @ large.T, 0) @ head.T,
    )


def beside(path: Path, name: str, values: np.ndarray[Any, Any]) -> Any:
    """Write a tensor into a file of its own, and return what an ONNX model beside it says of it."""
    from onnx import StringStringEntryProto, TensorProto

    values.tofile(path)
    return TensorProto(
        name=name,
        dims=values.shape,
        data_type=TensorProto.FLOAT,
        data_location=TensorProto.EXTERNAL,
        external_data=[StringStringEntryProto(key="location", value=path.name)],
    )


def many_samples(_: Path) -> Case:
    """20,000 samples on a small network."""
    network = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    return trained(network, (20_000, 784), "0")


def billion(_: Path) -> Case:
    """A dense layer of a billion parameters, on an accelerator."""
    if not torch.cuda.is_available():
        raise NotHereError("it needs a CUDA device, and there is none")
    network = nn.Sequential(nn.Linear(32_768, 32_768), nn.ReLU(), nn.Linear(32_768, 10))
    return trained(network.to("cuda"), (200, 32_768), "0")


CASES: dict[str, Callable[[Path], Case]] = {
    "VGG-16, first dense layer": vgg16,
    "ResNet-50, last convolution": resnet50,
    "ViT-B/16, MLP of the last block": vit,
    "ONNX file above 2 GB": onnx_file,
    "20,000 samples, small network": many_samples,
    "dense layer of a billion parameters": billion,
}


def trained(network: nn.Module, shape: tuple[int, ...], layer: str) -> Case:
    """Pair a network with one of which a layer is changed by a third, as by training."""
    network.train(False)
    final = deepcopy(network)
    weight: Any = final.get_submodule(layer).weight
    with torch.no_grad():
        weight += 0.3 * weight.flip(0)
    final.register_forward_pre_hook(count, with_kwargs=True)
    return Case(network, final, shape, layer)


def count(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Add up the samples that a network, or a copy of it, is run on."""
    global _seen  # noqa: PLW0603  a hook's own state would be copied with the module
    _seen += len(args[0] if args else next(iter(kwargs.values())))


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    cases: Annotated[
        list[str] | None, typer.Option("--case", help="What their names have.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Where the figures go, beside those of other cases.")
    ] = Path("benchmarks/results/sizes.json"),
) -> None:
    """Print the table."""
    # Without this, each process that measures one case would start all of them again.
    if context.invoked_subcommand:
        return
    table = Table("model", "samples", "weight", "seconds", "added at most", "passes", "searched")
    figures = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    for name in CASES:
        if cases and not any(part in name for part in cases):
            continue
        command = [sys.executable, __file__, "one", name]
        ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        told = json.loads(ran.stdout.splitlines()[-1])
        figures[name] = told
        if "why" in told:
            table.add_row(name, "", "", "", "", "", f"left out: {told['why']}")
            continue
        passes = "not counted" if told["passes"] is None else f"{told['passes']:.1f}"
        table.add_row(
            *(name, f"{told['samples']:,}", f"{told['weight']:,.0f} MiB"),
            *(f"{told['seconds']:.0f}", f"{told['added']:,.0f} MiB", passes, told["method"]),
        )
    Console().print(table)
    out.parent.mkdir(parents=True, exist_ok=True)
    in_order = {name: figures[name] for name in CASES if name in figures}
    out.write_text(json.dumps(in_order, indent=1) + "\n", encoding="utf-8")


@app.command(hidden=True)
def one(name: str) -> None:
    """Purify one model, and write what it took as JSON."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        try:
            told = measured(CASES[name](Path(folder)))
        except (NotHereError, ImportError) as error:
            told = {"why": str(error)}
    typer.echo(json.dumps(told))


def measured(case: Case) -> dict[str, Any]:
    """Purify a model, and return what it took."""
    global _seen  # noqa: PLW0603
    rng = np.random.default_rng(0)
    x = np.maximum(rng.standard_normal(case.shape, dtype=np.float32), 0)
    parts = np.array_split(x, max(len(x) // 20, 1))
    y = np.concatenate([_classes(case, part) for part in parts])
    _seen = 0
    give_back_freed()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", flain.FlainWarning)
        result = flain.purify(
            case.final,
            initial=case.initial,
            data=(x, y),
            layers=case.layer,
            settings=BY_PROBABILITY,
        )
    seconds = time.perf_counter() - started
    outcome = result.layers[0]
    layer = registry.open_network(case.initial, like=case.final).layers()[case.layer]
    return {
        "samples": len(x),
        "weight": layer.weight.nbytes / MIB,
        "seconds": seconds,
        "added": (resident("VmHWM") - before) / MIB,
        "passes": _seen / len(x) if case.scores is None else None,
        "method": f"{outcome.flip}, {outcome.method}, {len(outcome.steps)} steps",
    }


def _classes(case: Case, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if case.scores is not None:
        return np.asarray(case.scores(x).argmax(axis=1))
    device = next(case.final.parameters()).device
    with torch.no_grad():
        scores: Any = case.final(torch.from_numpy(x).to(device))
    return np.asarray(getattr(scores, "logits", scores).argmax(1).cpu())


if __name__ == "__main__":
    app()
