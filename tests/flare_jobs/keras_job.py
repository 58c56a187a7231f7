"""The workflow with TensorFlow's persistor: python keras_job.py WORKSPACE."""

import sys
from pathlib import Path

import backdoored
import keras
import numpy as np
from flare_server import Rounds, Server
from nvflare.app_opt.tf.model_persistor import TFModelPersistor
from nvflare.app_opt.tf.utils import flat_layer_weights_dict

import flain_core as flain
from flain_nvflare import Purify


def build(weights):
    """The NumPy network in Keras; a normalization that does nothing brings counters along."""
    model = keras.Sequential(
        [
            keras.Input((12,)),
            keras.layers.Dense(10, activation="relu", name="zeroth"),
            keras.layers.BatchNormalization(epsilon=1e-9, name="norm"),
            keras.layers.Dense(7, activation="relu", name="first"),
            keras.layers.Dense(3, name="second"),
        ]
    )
    for name, number in (("zeroth", 1), ("first", 2), ("second", 3)):
        kernel, bias = weights[f"fc{number}.weight"].T, weights[f"fc{number}.bias"]
        model.get_layer(name).set_weights([kernel, bias])
    return model


def main(workspace):
    from flain_numpy import arrays_of

    initial, final = (build(arrays_of(each)) for each in backdoored.networks())
    x, y = backdoored.samples(300, seed=11)
    np.savez(workspace / "clean.npz", x=x, y=y)
    expected = flain.purify(final, initial=initial, data=(x, y)).model

    # The persistor itself takes layers in any order, but not the arrays of a layer.
    layers = reversed(final.layers)
    reordered = flat_layer_weights_dict({layer.name: layer.get_weights() for layer in layers})
    persistor = TFModelPersistor(model=build(arrays_of(backdoored.networks()[0])))
    workflow = Purify(data=str(workspace / "clean.npz"))
    server = Server(workspace / "server", persistor, Rounds(reordered), workflow).run()
    assert server.panics == [], server.panics
    assert (server.run_folder / "purification.json").exists(), "not purified"

    for name, wanted in (
        ("tf_model.weights.h5", expected),
        ("unpurified_tf_model.weights.h5", final),
    ):
        initial.load_weights(server.folder / name)
        for got, want in zip(initial.get_weights(), wanted.get_weights(), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
