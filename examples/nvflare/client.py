"""A client trains the model that it receives, and evaluates a model when it is asked to."""

import argparse

import mnist
import nvflare.client as flare
import torch
from model import Network
from torch import nn


def train(network, x, y, epochs, seed):
    network.train()
    torch.manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(y)), 64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()


def accuracy(network, x, y):
    network.eval()
    with torch.inference_mode():
        hits = [network(part).argmax(1) for part in torch.split(x, 1000)]
    return (torch.cat(hits) == y).float().mean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int)
    parser.add_argument("--malicious", type=int, help="How many, counted from the first.")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()

    torch.set_num_threads(1)
    flare.init()
    number = int(flare.get_site_name().removeprefix("site-")) - 1
    malicious = number < options.malicious
    x, y = mnist.holdings(number, options.samples, malicious, options.seed)
    tested, triggered = mnist.read("t10k"), mnist.triggered()
    network = Network()
    while flare.is_running():
        received = flare.receive()
        if received is None:
            break
        network.load_state_dict(received.params)
        if flare.is_evaluate():
            metrics = {"ACC": accuracy(network, *tested), "ASR": accuracy(network, *triggered)}
            flare.send(flare.FLModel(metrics=metrics))
            continue
        seed = 10_000 * options.seed + 100 * received.current_round + number
        train(network, x, y, options.epochs, seed)
        flare.send(
            flare.FLModel(
                params=network.state_dict(),
                meta={"NUM_STEPS_CURRENT_ROUND": len(y)},
            )
        )


if __name__ == "__main__":
    main()
