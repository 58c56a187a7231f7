"""The strategy around Flower's own, in the small federation of ``flower_federation``."""

import flower_federation as federation
from backdoored import samples
from flwr.app import ArrayRecord, MetricRecord
from flwr.serverapp.strategy import FedAvg

import flain_flower

ROUNDS = 3
FIXED = {"noise_multiplier": 0.01, "clipping_norm": 5.0, "num_sampled_clients": federation.CLIENTS}
"""What differential privacy with fixed clipping is given."""


def wrapped(strategy=None, **options):
    """FedAvg, or another strategy, and a purification after it."""
    options = {"model": federation.network(), "data": samples(400, seed=5)} | options
    return flain_flower.Purify(FedAvg() if strategy is None else strategy, **options)


def initial(build=federation.network):
    """What training starts from."""
    return ArrayRecord(build().state_dict())


def run(strategy, app=None, *, build=federation.network, arrays=None, grid=None, **options):
    """Train from the same seed each time."""
    federation.reseed()
    grid = grid or federation.Local(app or federation.client_app(build))
    options = {"num_rounds": ROUNDS} | options
    return strategy.start(grid, arrays or initial(build), **options)


def equal(ours, theirs):
    """Whether two records hold the same arrays, in the same order."""
    return list(ours) == list(theirs) and all(ours[key] == theirs[key] for key in ours)


class ChangesTheLastRound(FedAvg):
    """Ends with other arrays than it trained."""

    spoil = staticmethod(lambda arrays: arrays)

    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, replies)
        if server_round == ROUNDS:
            arrays = self.spoil(arrays)
        return arrays, metrics


def spoiled(change):
    """FedAvg that ends with what ``change`` makes of its arrays."""
    strategy = ChangesTheLastRound(fraction_evaluate=0.0)
    strategy.spoil = lambda arrays: ArrayRecord(change(dict(arrays)))
    return strategy


def evaluation(build=federation.network, seen=None):
    """Measures ACC and ASR for Flower; what it was given is added to ``seen``."""

    def evaluate(server_round, arrays):
        acc, asr = federation.measured(build(), arrays)
        if seen is not None:
            seen.append((server_round, arrays))
        return MetricRecord({"ACC": acc, "ASR": asr})

    return evaluate
