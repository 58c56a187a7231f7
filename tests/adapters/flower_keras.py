"""A federation of Keras models. Runs the code it reads; prints ACC and ASR before and after."""

import sys

import keras
import numpy as np
from backdoored import CLASSES, FEATURES, samples, triggered
from flower_federation import Local, holding
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from flain_flower import Purify

app = ClientApp()


def make_model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.layers.Input((FEATURES,)),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(CLASSES),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss)
    return model


@app.train()
def fit(message, context):
    x, y = (tensor.numpy() for tensor in holding(context.node_config["partition-id"]))
    model = make_model()
    model.set_weights(message.content["arrays"].to_numpy_ndarrays())
    model.fit(x, y, batch_size=200, epochs=8, verbose=0)
    arrays, metrics = ArrayRecord(model.get_weights()), MetricRecord({"num-examples": len(y)})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


def measured(model):
    return [
        float(np.mean(model.predict_on_batch(x).argmax(axis=1) == y))
        for x, y in (samples(600, seed=7), triggered(600, seed=8))
    ]


x, y = samples(400, seed=5)
names = {
    "ArrayRecord": ArrayRecord,
    "FedAvg": lambda: FedAvg(fraction_evaluate=0.0),
    "Purify": Purify,
    "grid": Local(app),
    "model": make_model(),
    "x": x,
    "y": y,
}
exec(sys.stdin.read(), names)
trained = make_model()
trained.set_weights(names["strategy"].trained_arrays.to_numpy_ndarrays())
for model in (trained, names["model"]):
    sys.stdout.write("{} {}\n".format(*measured(model)))
