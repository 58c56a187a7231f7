"""Runs the code and the command of docs/frameworks/keras.md: a process of its own for an engine."""

import os
import sys
import tempfile

import backdoored
import doc_pages as pages
import keras
import numpy as np

import flain

PAGE = "docs/frameworks/keras.md"
INITIAL, FINAL = backdoored.networks()
X, Y = backdoored.samples(400, seed=11)


def built(network, heads=("scores",)):
    """A NumPy network in Keras, with as many outputs as there are names."""
    inputs = x = keras.Input((12,))
    *body, last = network.layers().values()
    for layer in body:
        x = keras.layers.Dense(len(layer.weight), activation="relu", name=layer.name)(x)
    outputs = {name: keras.layers.Dense(len(last.weight), name=name)(x) for name in heads}
    model = keras.Model(inputs, outputs if len(heads) > 1 else outputs[heads[0]])
    for layer in body:
        model.get_layer(layer.name).set_weights([layer.weight.T, layer.bias])
    for name in heads:
        model.get_layer(name).set_weights([last.weight.T, last.bias])
    return model


def asr(model):
    x, target = backdoored.triggered(400, seed=13)
    return float((model.predict(x, verbose=0).argmax(1) == target).mean())


os.chdir(tempfile.mkdtemp())
final = built(FINAL)
names = {
    "flain": flain,
    "model": built(INITIAL),
    "train": lambda model: model.set_weights(final.get_weights()),
    "x": X,
    "y": Y,
    "two_outputs": built(FINAL, ("digits", "other")),
    "two_outputs_before": built(INITIAL, ("digits", "other")),
}
first, second = (each.code for each in pages.shown(PAGE))
exec(first, names)
assert asr(names["model"]) > 0.9
assert asr(names["purified"]) < 0.05
exec(second, names)
assert names["result"].verdict == "flipped"

built(INITIAL).save("initial.keras")
final.save("final.keras")
np.savez("auxiliary.npz", x=X, y=Y)
os.remove("purified.keras")
from flain_cli.run import ended_with  # noqa: E402

((program, *words),) = pages.commands(PAGE)
assert program == "flain"
assert ended_with(words) == 0
assert asr(keras.models.load_model("purified.keras")) < 0.05
sys.stdout.write("both pages ran\n")
