"""How the clients' images are dealt to them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .data import CLASSES, Indices

PARTITIONS: dict[str, float | None] = {"iid": None, "dirichlet": 0.5}


def dealt(
    labels: npt.NDArray[np.int64], clients: int, partition: str, seed: int, fewest: int = 10
) -> list[Indices]:
    """Indices into ``labels`` for each client; together they are all of them, each once.

    ``iid`` deals equal counts. ``dirichlet`` deals each class with shares drawn from a symmetric
    Dirichlet distribution with concentration 0.5, so that clients differ in classes and in counts;
    it draws again until every client has ``fewest`` images.

    Raises:
        KeyError: No such partition.
        ValueError: There are fewer than ``fewest`` images for each client.
    """
    if len(labels) < fewest * clients:
        raise ValueError(
            f"expected at least {fewest} images for each of {clients} clients; got {len(labels)}"
        )
    rng = np.random.default_rng((seed, clients))
    concentration = PARTITIONS[partition]
    if concentration is None:
        return list(np.array_split(rng.permutation(len(labels)), clients))
    while True:
        parts: list[list[Indices]] = [[] for _ in range(clients)]
        for label in range(CLASSES):
            members = rng.permutation(np.flatnonzero(labels == label))
            shares = rng.dirichlet([concentration] * clients)
            cuts = (np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
            for part, piece in zip(parts, np.split(members, cuts), strict=True):
                part.append(piece)
        joined = [rng.permutation(np.concatenate(part)) for part in parts]
        if min(map(len, joined)) >= fewest:
            return joined
