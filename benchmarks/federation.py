"""A small, seeded federation with backdoor attackers, trained on MNIST on a CPU.

The setting follows the facts known of FLAIN's published code (ICMR 2025,
doi 10.1145/3731715.3733342): FedAvg weighted by sample counts, Adam, two local epochs,
CBA (class 0 -> 5, a 5x5 white square at rows and columns 23-27). It is smaller, so that
it takes minutes on one core: 20 clients of about 1,000 samples, all of them in every
round; batches of 64 at 2e-3 instead of 256 at 1e-3; 10 outputs instead of 62.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from mnist_samples import CLASSES, SIDE, Indices, Samples, inputs
from torch import Tensor, nn

State: TypeAlias = dict[str, Tensor]

# --- Attack --------------------------------------------------------------------------


@dataclass(frozen=True)
class Patch:
    """A white square; `rows` and `columns` are (first, last), both included."""

    rows: tuple[int, int] = (23, 27)
    columns: tuple[int, int] = (23, 27)

    def __post_init__(self) -> None:
        for first, last in (self.rows, self.columns):
            if not 0 <= first <= last < SIDE:
                raise ValueError(f"a patch lies within 0..{SIDE - 1}, got {first}..{last}")

    def stamp(self, images: Tensor) -> Tensor:
        """Copies of uint8 images (n, 1, 28, 28) with the square at full brightness."""
        stamped = images.clone()
        rows = slice(self.rows[0], self.rows[1] + 1)
        columns = slice(self.columns[0], self.columns[1] + 1)
        stamped[:, :, rows, columns] = 255
        return stamped


@dataclass(frozen=True)
class Attack:
    """The attack: a malicious client marks some `source` images and labels them `target`.

    `poisoned` is the share of its source-class samples that it marks; the published code
    uses 0.2 to 0.5. In everything else the client is honest: same optimizer, no scaling.
    """

    source: int = 0
    target: int = 5
    poisoned: float = 0.5
    patch: Patch = field(default_factory=Patch)

    def __post_init__(self) -> None:
        if self.source == self.target:
            raise ValueError(f"source and target differ, got {self.source} for both")
        if not 0 < self.poisoned <= 1:
            raise ValueError(f"poisoned is a share in (0, 1], got {self.poisoned}")

    def poison(self, samples: Samples) -> Samples:
        """Replaces the first source-class samples; the caller has shuffled them."""
        sources = torch.nonzero(samples.labels == self.source).flatten()
        marked = sources[: math.ceil(self.poisoned * len(sources))]
        images, labels = samples.images.clone(), samples.labels.clone()
        images[marked] = self.patch.stamp(images[marked])
        labels[marked] = self.target
        return Samples(images, labels)


# --- Partition -----------------------------------------------------------------------


@dataclass(frozen=True)
class Population:
    """The clients, and how the training samples are spread over them.

    `dirichlet` is the concentration of the label skew, `None` for IID. Malicious clients
    are the first ones. Each of them holds at least the number of source-class samples
    that an IID client would have (`samples_per_client / 10`); if the split gives it
    fewer, it brings its own, which no other client has.
    """

    clients: int = 20
    samples_per_client: int = 1000
    malicious_share: float = 0.3
    dirichlet: float | None = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.clients < 1 or self.samples_per_client < CLASSES:
            raise ValueError(
                f"at least 1 client and {CLASSES} samples per client are needed, got "
                f"{self.clients} and {self.samples_per_client}"
            )
        if not 0 <= self.malicious_share < 1:
            raise ValueError(f"malicious_share lies in [0, 1), got {self.malicious_share}")
        if self.dirichlet is not None and not self.dirichlet > 0:
            raise ValueError(f"dirichlet is positive, or None for IID, got {self.dirichlet}")
        if self.seed < 0:
            raise ValueError(f"seed is not negative, got {self.seed}")

    @property
    def malicious(self) -> int:
        """How many clients are malicious, in every round."""
        return round(self.clients * self.malicious_share)


@dataclass(frozen=True, eq=False)
class Holdings:
    """The samples of each client, already poisoned, and the defender's clean samples."""

    clients: tuple[Samples, ...]
    auxiliary: Samples


def first_per_class(labels: npt.NDArray[np.int64], order: Indices, count: int) -> Indices:
    """The first `count` indices of each class along `order`, sorted by class."""
    picks = [order[labels[order] == label][:count] for label in range(CLASSES)]
    if short := [label for label, pick in enumerate(picks) if len(pick) < count]:
        raise ValueError(f"fewer than {count} samples of class {short}; ask for fewer")
    return np.concatenate(picks)


def split(
    labels: npt.NDArray[np.int64], pool: Indices, population: Population, rng: np.random.Generator
) -> list[Indices]:
    """Deals the indices in `pool` to the clients, IID or class by class with Dirichlet shares.

    IID clients get equal counts; Dirichlet clients differ in both labels and counts.
    """
    if population.dirichlet is None:
        return list(np.array_split(pool, population.clients))
    parts: list[list[Indices]] = [[] for _ in range(population.clients)]
    for label in range(CLASSES):
        members = pool[labels[pool] == label]
        shares = rng.dirichlet([population.dirichlet] * population.clients)
        cuts = (np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
        for part, piece in zip(parts, np.split(members, cuts), strict=True):
            part.append(piece)
    return [np.concatenate(part) for part in parts]


def distribute(
    train: Samples, population: Population, attack: Attack, auxiliary_per_class: int
) -> Holdings:
    """Sets the auxiliary samples aside, deals the rest and poisons the malicious holdings.

    Auxiliary samples, honest holdings and the attackers' extra samples are disjoint.
    """
    rng = np.random.default_rng(population.seed)
    labels = train.labels.numpy()
    order = rng.permutation(len(train))
    auxiliary = first_per_class(labels, order, auxiliary_per_class)
    free = order[~np.isin(order, auxiliary)]
    dealt = population.clients * population.samples_per_client
    if dealt > len(free):
        raise ValueError(f"{dealt} samples wanted for the clients, {len(free)} are left")
    parts = split(labels, free[:dealt], population, rng)

    extra = free[dealt:][labels[free[dealt:]] == attack.source]
    floor = population.samples_per_client // CLASSES
    clients = []
    for number, part in enumerate(parts):
        if number >= population.malicious:
            clients.append(train.take(part))
            continue
        missing = max(0, floor - int((labels[part] == attack.source).sum()))
        if missing > len(extra):
            raise ValueError(
                f"client {number} lacks {missing} samples of class {attack.source} and "
                f"{len(extra)} are left; lower clients or samples_per_client"
            )
        own, extra = extra[:missing], extra[missing:]
        clients.append(attack.poison(train.take(np.concatenate([part, own]))))
    return Holdings(tuple(clients), train.take(auxiliary))


# --- Training ------------------------------------------------------------------------


@dataclass(frozen=True)
class LocalTraining:
    """A client's training between two aggregations, with a fresh Adam each time."""

    epochs: int = 2
    batch: int = 64
    learning_rate: float = 2e-3


def derived_seed(*parts: int) -> int:
    """A 32-bit seed that depends on every part and on their order."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def train_locally(network: nn.Module, samples: Samples, plan: LocalTraining) -> None:
    """Trains in place; batch order and dropout come from torch's global generator."""
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=plan.learning_rate)
    for _ in range(plan.epochs):
        for batch in torch.split(torch.randperm(len(samples)), plan.batch):
            logits = network(inputs(samples.images[batch]))
            loss = nn.functional.cross_entropy(logits, samples.labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def copy_state(network: nn.Module) -> State:
    """The network's state as contiguous tensors, detached from its later training."""
    return {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }


def federated_average(states: Sequence[State], counts: Sequence[int]) -> State:
    """FedAvg (McMahan et al. 2017): the mean of the states, weighted by sample counts."""
    total = sum(counts)
    return {
        name: torch.stack(
            [state[name] * (count / total) for state, count in zip(states, counts, strict=True)]
        ).sum(0)
        for name in states[0]
    }


# --- Measurement ---------------------------------------------------------------------


@dataclass(frozen=True)
class Measurement:
    """Shares in [0, 1]. No image of the target class counts towards either ASR.

    `accuracy` is ACC on clean images; `asr_source` is the share of triggered source-class
    images classified as the target; `asr_all` the same over every other class.
    """

    accuracy: float
    asr_source: float
    asr_all: float


def predict(network: nn.Module, images: Tensor, batch: int = 1000) -> Tensor:
    """Predicted classes, int64 (n,), in evaluation mode, for uint8 images (n, 1, 28, 28)."""
    network.eval()
    with torch.inference_mode():
        return torch.cat([network(inputs(part)).argmax(1) for part in torch.split(images, batch)])


def measure(network: nn.Module, test: Samples, attack: Attack) -> Measurement:
    """ACC on the test samples and ASR on their triggered copies."""
    clean = predict(network, test.images) == test.labels
    others = test.labels != attack.target
    hit = predict(network, attack.patch.stamp(test.images[others])) == attack.target
    source = test.labels[others] == attack.source
    return Measurement(
        accuracy=clean.float().mean().item(),
        asr_source=hit[source].float().mean().item(),
        asr_all=hit.float().mean().item(),
    )


@dataclass(frozen=True)
class Round:
    """One finished round, numbered from 1; `seconds` leave out the measurement."""

    number: int
    seconds: float
    measurement: Measurement


@dataclass(frozen=True, eq=False)
class Federation:
    """Clients that train one network together; `seed` fixes batches and dropout."""

    holdings: Holdings
    plan: LocalTraining
    seed: int

    def rounds(self, network: nn.Module, test: Samples, attack: Attack) -> Iterator[Round]:
        """Trains `network` in place without end, one round for each item taken."""
        number = 0
        while True:
            number += 1
            start = time.perf_counter()
            self._train_round(network, number)
            seconds = time.perf_counter() - start
            yield Round(number, seconds, measure(network, test, attack))

    def _train_round(self, network: nn.Module, number: int) -> None:
        before = copy_state(network)
        states = []
        for client, samples in enumerate(self.holdings.clients):
            torch.manual_seed(derived_seed(self.seed, number, client))
            network.load_state_dict(before)
            train_locally(network, samples, self.plan)
            states.append(copy_state(network))
        counts = [len(samples) for samples in self.holdings.clients]
        network.load_state_dict(federated_average(states, counts))
