"""The MNIST network of the published code in every framework, ready to be searched and to be run.

The weights and their updates are random; they cost what trained ones cost, as those of the last
layer are so large that the network is about as sure as a trained one. fc1 has 3,136 input neurons.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import typer

import flain_core as flain
from flain_cli import example
from flain_core import Grid
from flain_core.opening import registry

__all__ = ["CONTENDERS", "Contender", "installed"]

Array = npt.NDArray[Any]

_SHAPES = {"conv1": (32, 1, 3, 3), "conv2": (64, 32, 3, 3), "fc1": (128, 3136), "fc2": (62, 128)}
_SURE = {"fc2": 150}
_BATCH = 256


@dataclass(frozen=True, eq=False)
class Contender:
    """A network as training might have left it, and how its framework runs it.

    Attributes:
        final: The framework's own model.
        initial: What training started from.
        x: 800 MNIST images in the framework's layout.
        layer: The layer that is searched.
        run: The framework's own way to the scores ``(n, classes)`` of some samples under another
            weight of the layer, ``(out, in)``.
    """

    final: Any
    initial: Any
    x: Array
    layer: str
    run: Callable[[Array, Array], Array]

    @cached_property
    def opened(self) -> flain.Network:
        """The final model as its backend opens it."""
        return registry.open_network(self.final)

    @cached_property
    def weights(self) -> tuple[Array, Array]:
        """The initial and the final weight of the layer, ``(out, in)``."""
        start = registry.open_network(self.initial, like=self.final)
        return start.layers()[self.layer].weight, self.opened.layers()[self.layer].weight

    @cached_property
    def y(self) -> Array:
        """The classes that the final model gives, so that its accuracy is 1."""
        classes: Array = self.opened.predict(self.x).argmax(axis=1)
        return classes

    @cached_property
    def activation(self) -> Array:
        """``(in,)`` mean activation of the layer's input neurons."""
        entering = self.opened.cut(self.layer, self.x).inputs
        mean: Array = entering.mean(axis=0, dtype=np.float64)
        return mean

    def grid(self, thresholds: int) -> Grid:
        """A grid of that many thresholds, from 0 to the median activation."""
        highest = float(np.median(self.activation))
        return Grid(start=0.0, step=highest / (thresholds - 1), stop=highest)

    def purified(self, settings: flain.Settings | None, **instead: Any) -> flain.Purification:
        """Purify the layer by the model's own classes; ``instead`` has other arguments, by name."""
        given = {"model": self.final, "initial": self.initial, "layers": self.layer, **instead}
        with warnings.catch_warnings():
            # So no loss may end the search; that is no matter here.
            warnings.simplefilter("ignore", flain.FlainWarning)
            return flain.purify(data=(self.x, self.y), settings=settings, **given)

    def in_batches(self, weight: Array) -> Array:
        """The scores of all samples, run in batches that stay in the cache."""
        starts = range(0, len(self.x), _BATCH)
        return np.concatenate([self.run(weight, self.x[i : i + _BATCH]) for i in starts])

    def at_once(self, weight: Array) -> Array:
        """The scores of all samples in a single pass."""
        return self.run(weight, self.x)


def with_torch() -> Contender:
    """A PyTorch module; a weight is copied into its parameter."""
    import torch
    from torch import nn

    def module(weights: Mapping[str, Array]) -> nn.Module:
        parts: list[tuple[str, nn.Module]] = [
            *(("conv1", nn.Conv2d(1, 32, 3, padding=1)), ("relu1", nn.ReLU())),
            *(("pool1", nn.MaxPool2d(2)), ("conv2", nn.Conv2d(32, 64, 3, padding=1))),
            *(("relu2", nn.ReLU()), ("pool2", nn.MaxPool2d(2)), ("flatten", nn.Flatten())),
            *(("dropout1", nn.Dropout()), ("fc1", nn.Linear(3136, 128)), ("relu3", nn.ReLU())),
            *(("dropout2", nn.Dropout()), ("fc2", nn.Linear(128, 62))),
        ]
        made = nn.Sequential(OrderedDict(parts)).eval()
        made.load_state_dict({name: torch.from_numpy(each) for name, each in weights.items()})
        return made

    initial, final = map(module, _weights())
    used = module(_weights()[1])
    parameter = used.get_parameter("fc1.weight")

    def run(weight: Array, x: Array) -> Array:
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(np.require(weight, requirements="W")))
            scores: Array = used(torch.from_numpy(x)).numpy()
        return scores

    return Contender(final, initial, _images(), "fc1", run)


def with_keras() -> Contender:
    """A Keras model on the engine of this process; ``predict_on_batch``, which it compiles."""
    import keras

    layers = keras.layers

    def model(weights: Mapping[str, Array]) -> Any:
        made = keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                layers.Conv2D(32, 3, padding="same", activation="relu", name="conv1"),
                layers.MaxPooling2D(),
                layers.Conv2D(64, 3, padding="same", activation="relu", name="conv2"),
                layers.MaxPooling2D(),
                layers.Flatten(),
                layers.Dropout(0.5),
                layers.Dense(128, activation="relu", name="fc1"),
                layers.Dropout(0.5),
                layers.Dense(62, name="fc2"),
            ]
        )
        for name, shape in _SHAPES.items():
            weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
            kernel = weight.T if len(shape) == 2 else weight.transpose(2, 3, 1, 0)
            made.get_layer(name).set_weights([np.ascontiguousarray(kernel), bias])
        return made

    initial, final = map(model, _weights())
    used = model(_weights()[1])
    kernel = used.get_layer("fc1").kernel

    def run(weight: Array, x: Array) -> Array:
        kernel.assign(np.ascontiguousarray(weight.T))
        return np.asarray(used.predict_on_batch(x))

    return Contender(final, initial, _images().transpose(0, 2, 3, 1).copy(), "fc1", run)


def with_onnx() -> Contender:
    """The model that torch exports; the weight is an input, so that one session is enough."""
    import tempfile
    from pathlib import Path

    import onnx
    import onnxruntime
    import torch

    def exported(module: Any) -> onnx.ModelProto:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            torch.onnx.export(
                module,
                (torch.from_numpy(_images()[:2]),),
                path,
                dynamic_shapes=({0: torch.export.Dim("n")},),
                external_data=False,
                verbose=False,
            )
            return onnx.load(path)

    made = with_torch()
    initial, final = exported(made.initial), exported(made.final)
    layer = next(
        name
        for name, each in registry.open_network(final).layers().items()
        if each.weight.shape == _SHAPES["fc1"]
    )
    fed = onnx.ModelProto()
    fed.CopyFrom(final)
    stored = next(one for one in fed.graph.initializer if tuple(one.dims) == _SHAPES["fc1"])
    fed.graph.input.append(
        onnx.helper.make_tensor_value_info(stored.name, stored.data_type, stored.dims)
    )
    session = onnxruntime.InferenceSession(
        fed.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    images = session.get_inputs()[0].name

    def run(weight: Array, x: Array) -> Array:
        scores: Array = session.run(None, {images: x, stored.name: weight})[0]
        return scores

    return Contender(final, initial, _images(), layer, run)


def with_numpy() -> Contender:
    """A network of flain_numpy; a weight is put into a copy, which is run."""
    from flain_numpy import Conv2d, Dense, Flatten, MaxPool2d, Network, ReLU

    def network(weights: Mapping[str, Array]) -> Network:
        w = {name: (weights[f"{name}.weight"], weights[f"{name}.bias"]) for name in _SHAPES}
        return Network(
            [
                *(Conv2d("conv1", *w["conv1"], padding=1), ReLU(), MaxPool2d(2)),
                *(Conv2d("conv2", *w["conv2"], padding=1), ReLU(), MaxPool2d(2), Flatten()),
                *(Dense("fc1", *w["fc1"]), ReLU(), Dense("fc2", *w["fc2"])),
            ]
        )

    initial, final = map(network, _weights())

    def run(weight: Array, x: Array) -> Array:
        return final.replace({"fc1": weight}).predict(x)

    return Contender(final, initial, _images(), "fc1", run)


def with_sklearn() -> Contender:
    """The fully connected part alone, as scikit-learn has no convolutions."""
    from copy import deepcopy

    from sklearn.neural_network import MLPClassifier

    whole = with_numpy()
    x = whole.opened.cut("fc1", whole.x).inputs.reshape(len(whole.x), -1).copy()

    def classifier(weights: Mapping[str, Array]) -> MLPClassifier:
        made = MLPClassifier((128,), max_iter=1)
        made.partial_fit(x[:62], np.arange(62), classes=np.arange(62))
        made.coefs_ = [weights["fc1.weight"].T.copy(), weights["fc2.weight"].T.copy()]
        made.intercepts_ = [weights["fc1.bias"].copy(), weights["fc2.bias"].copy()]
        return made

    initial, final = map(classifier, _weights())
    used = deepcopy(final)
    layer = next(iter(registry.open_network(final).layers()))

    def run(weight: Array, x: Array) -> Array:
        used.coefs_[0] = weight.T
        scores: Array = used.predict_proba(x)
        return scores

    return Contender(final, initial, x, layer, run)


CONTENDERS: Mapping[str, Callable[[], Contender]] = {
    "torch": with_torch,
    "keras": with_keras,
    "onnx": with_onnx,
    "numpy": with_numpy,
    "sklearn": with_sklearn,
}


def installed(names: Sequence[str] | None) -> Iterator[tuple[str, Contender]]:
    """Yield the contenders of these names, None for all; say which are left out, and why.

    Raises:
        typer.BadParameter: There is none of a name.
    """
    for name in names or CONTENDERS:
        if name not in CONTENDERS:
            raise typer.BadParameter(f"expected one of {', '.join(CONTENDERS)}; got {name!r}")
        try:
            contender = CONTENDERS[name]()
        except ImportError as error:
            typer.echo(f"{name} is left out: {error}", err=True)
            continue
        yield name, contender


def _images() -> Array:
    with np.load(example.files().folder / "auxiliary.npz") as auxiliary:
        images: Array = auxiliary["x"]
    return images


def _weights() -> tuple[dict[str, Array], dict[str, Array]]:
    """Weights and biases of the initial and the final network, by name."""
    random = np.random.default_rng(0)
    initial, final = {}, {}
    for name, shape in _SHAPES.items():
        reach = _SURE.get(name, 1) / np.sqrt(np.prod(shape[1:]))
        for part, size in (("weight", shape), ("bias", shape[:1])):
            start = random.uniform(-reach, reach, size).astype(np.float32)
            update = random.standard_normal(size) * start.std() * 0.5
            initial[f"{name}.{part}"] = start
            final[f"{name}.{part}"] = (start + update).astype(np.float32)
    return initial, final
