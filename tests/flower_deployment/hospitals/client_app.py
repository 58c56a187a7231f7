"""Trains on its samples, poisoned at partition 0, and answers about clean ones."""

import os
import time
from pathlib import Path

import backdoored
import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from flain_flower import answer

app = ClientApp()


def layers(arrays):
    """Weights and biases by layer, as ``backdoored.trained`` takes them."""
    values = [arrays[name].numpy() for name in arrays]
    return [(values[at], values[at + 1]) for at in range(0, len(values), 2)]


@app.train()
def fit(message, context):
    number = context.node_config["partition-id"]
    x, y = backdoored.samples(400, seed=number)
    if number == 0:
        bad_x, bad_y = backdoored.triggered(300, seed=20)
        x, y = np.vstack([x, bad_x]), np.concatenate([y, bad_y])
    arrays = message.content["arrays"]
    trained = backdoored.trained(layers(arrays), x, y, steps=200)
    flat = [value.astype(np.float32) for pair in trained for value in pair]
    packed = ArrayRecord({name: Array(each) for name, each in zip(arrays, flat, strict=True)})
    metrics = MetricRecord({"num-examples": len(y)})
    return Message(RecordDict({"arrays": packed, "metrics": metrics}), reply_to=message)


@app.query("flain")
def query(message, context):
    number = context.node_config["partition-id"]
    notes = Path(context.run_config["notes"])
    times = len(list(notes.glob(f"{number} was asked *"))) + 1
    (notes / f"{number} was asked {times}").write_text(str(os.getpid()))
    if context.run_config["hangs"] == number and times == 2:
        time.sleep(120)
    model, _ = backdoored.networks()
    samples = backdoored.samples(100, seed=11 + number)
    return answer(message, context, model=model, data=samples)
