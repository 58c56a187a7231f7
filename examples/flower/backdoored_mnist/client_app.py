"""A client trains on its own images; a malicious one poisons them first."""

import torch
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from .attack import poisoned
from .mnist import partition
from .task import make_network, train

app = ClientApp()


@app.train()
def fit(message, context):
    config, number = context.run_config, context.node_config["partition-id"]
    samples = partition(config["data"], config["seed"], number, config["samples"])
    if number < config["malicious"]:
        samples = poisoned(samples)

    torch.set_num_threads(1)
    network = make_network()
    network.load_state_dict(message.content["arrays"].to_torch_state_dict())
    torch.manual_seed(hash((config["seed"], message.content["config"]["server-round"], number)))
    train(network, samples, epochs=config["epochs"], learning_rate=config["learning-rate"])

    metrics = MetricRecord({"num-examples": len(samples.labels)})
    content = RecordDict({"arrays": ArrayRecord(network.state_dict()), "metrics": metrics})
    return Message(content, reply_to=message)
