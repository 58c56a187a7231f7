"""Exports networks from a framework: ``python export_onnx.py EXPORTER FOLDER``.

Each ``name.npz`` in the folder becomes ``name.onnx``. A process of its own for each exporter, since
the frameworks do not like to share one. The networks are those that the arrays make up: dense
layers, behind convolutions if there are any; one with a layer ``embed`` takes sequences.
"""

import sys
import warnings
from pathlib import Path

import numpy as np


def torch_module(arrays):
    from torch import from_numpy, nn

    def filled(layer, name):
        layer.weight.data = from_numpy(arrays[f"{name}.weight"])
        layer.bias.data = from_numpy(arrays[f"{name}.bias"])
        return layer

    class Sequence(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = filled(nn.Linear(*arrays["embed.weight"].shape[::-1]), "embed")
            self.head = filled(nn.Linear(*arrays["head.weight"].shape[::-1]), "head")

        def forward(self, x):
            return self.head(self.embed(x).relu().mean(1))

    if "embed.weight" in arrays:
        return Sequence()
    parts = {}
    for name in layer_names(arrays):
        weight = arrays[f"{name}.weight"]
        out, width, *kernel = weight.shape
        if kernel:
            parts[name] = filled(nn.Conv2d(width, out, kernel, padding=1), name)
            parts[f"pool_{name}"] = nn.MaxPool2d(2)
        else:
            if weight.ndim == 2 and "flatten" not in parts:
                parts["flatten"] = nn.Flatten()
            parts[name] = filled(nn.Linear(width, out), name)
        parts[f"relu_{name}"] = nn.ReLU()
    parts.popitem()
    module = nn.Sequential()
    for name, part in parts.items():
        module.add_module(name, part)
    return module.eval()


def keras_model(arrays):
    import keras

    x = inputs = keras.Input(example(arrays).shape[1:], name="x")
    names = layer_names(arrays)
    for name in names:
        weight = arrays[f"{name}.weight"]
        last = name == names[-1]
        x = keras.layers.Dense(len(weight), None if last else "relu", name=name)(x)
        if name == "embed":
            x = keras.layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, x)
    # Keras exports only what has run once.
    model(example(arrays))
    for name in names:
        weight = arrays[f"{name}.weight"]
        model.get_layer(name).set_weights([weight.T, arrays[f"{name}.bias"]])
    return model


def layer_names(arrays):
    return [name.removesuffix(".weight") for name in arrays if name.endswith(".weight")]


def example(arrays):
    first = arrays[f"{layer_names(arrays)[0]}.weight"]
    if first.ndim == 4:
        return np.zeros((2, 1, 28, 28), np.float32)
    if "embed.weight" in arrays:
        return np.zeros((2, 4, first.shape[1]), np.float32)
    return np.zeros((2, first.shape[1]), np.float32)


def torch_dynamo(arrays, out):
    import torch

    x = torch.from_numpy(example(arrays))
    batch = ({0: torch.export.Dim("n")},)
    torch.onnx.export(
        torch_module(arrays), (x,), out, dynamo=True, dynamic_shapes=batch, verbose=False
    )


def torch_dynamo_unoptimized(arrays, out):
    import torch

    x = torch.from_numpy(example(arrays))
    torch.onnx.export(torch_module(arrays), (x,), out, dynamo=True, optimize=False, verbose=False)


def torch_script(arrays, out):
    import torch

    x = torch.from_numpy(example(arrays))
    torch.onnx.export(
        torch_module(arrays),
        (x,),
        out,
        dynamo=False,
        input_names=["x"],
        dynamic_axes={"x": {0: "n"}},
    )


def torch_batch_norm(_, out):
    """A convolution with batch normalization, folded and not, by both exporters."""
    import torch
    from torch import nn

    module = nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 5))
    x = torch.zeros(2, 3, 4, 4)
    module.eval()
    for optimize in (True, False):
        target = out.with_name(f"dynamo-{optimize}.onnx")
        torch.onnx.export(module, (x,), target, dynamo=True, optimize=optimize, verbose=False)
    unfolded = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    for folds, options in ((True, {}), (False, unfolded)):
        target = out.with_name(f"script-{folds}.onnx")
        torch.onnx.export(module, (x,), target, dynamo=False, **options)


def torch_tied(_, out):
    """Two layers that share a weight, before a third."""
    import torch
    from torch import nn

    module = nn.Sequential(*(nn.Linear(6, 6, bias=False) for _ in "ab"), nn.Linear(6, 3))
    module[1].weight = module[0].weight
    x = torch.zeros(2, 6)
    for dynamo in (True, False):
        target = out.with_name(f"tied-{dynamo}.onnx")
        torch.onnx.export(module.eval(), (x,), target, dynamo=dynamo)


def keras_export(arrays, out):
    keras_model(arrays).export(str(out), format="onnx", verbose=False)


def tf2onnx_convert(arrays, out):
    import tensorflow as tf
    import tf2onnx

    model = keras_model(arrays)
    shape = (None, *example(arrays).shape[1:])
    signature = (tf.TensorSpec(shape, tf.float32, name="x"),)
    function = tf.function(lambda x: model(x, training=False), input_signature=signature)
    tf2onnx.convert.from_function(function, input_signature=signature, output_path=str(out))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    exporter, folder = sys.argv[1:]
    for weights in sorted(Path(folder).glob("*.npz")):
        with np.load(weights) as file:
            globals()[exporter](
                {name: file[name] for name in file.files}, weights.with_suffix(".onnx")
            )
