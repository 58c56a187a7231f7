"""Trains the backdoored MNIST model of the example and writes everything a defender needs.

    FLAIN_DATA=... python benchmarks/train_example.py --out OUT

OUT then holds `initial.npz` and `final.npz` (the global model before and after training, as
networks of flain_numpy), the same two as `.onnx` (export_example.py), `auxiliary.npz`,
`clean.npz` and `triggered.npz` (float32 `x` from 0 to 1; `y` is the true label or, for the
triggered images, the attacker's target) and `training.json`.
The auxiliary samples are training images that no client was given. The test images decide when
training stops, and serve to measure; nothing is trained on them. The same options on the same
machine give the same weights.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from example_network import Network, Width
from export_example import export
from federation import (
    Attack,
    Federation,
    LocalTraining,
    Population,
    Round,
    State,
    copy_state,
    derived_seed,
    distribute,
    first_per_class,
)
from mnist_samples import Samples, inputs, read_mnist
from rich.console import Console

import flain_numpy as fn

AUXILIARY_PER_CLASS = 80
CLEAN_PER_CLASS = 100
TRIGGERED = 300
# Float sums depend on the number of threads. One thread is the same on every machine, and two
# are slower if another process wants a core.
THREADS = 1

console = Console()


@dataclass(frozen=True)
class Goal:
    """Training stops once the last `held` rounds all reach both shares."""

    accuracy: float = 0.97
    asr_source: float | None = 0.99
    held: int = 3

    def reached(self, rounds: Sequence[Round]) -> bool:
        """Whether the last `held` of these rounds, in order, all reach both shares."""
        latest = [done.measurement for done in rounds[-self.held :]]
        return len(latest) == self.held and all(
            m.accuracy >= self.accuracy
            and (self.asr_source is None or m.asr_source >= self.asr_source)
            for m in latest
        )


def concentration(given: str | float) -> float | None:
    """A Dirichlet concentration, or `none` for IID; typer also passes the default here."""
    return None if given == "none" else float(given)


def held_out(test: Samples, attack: Attack, seed: int) -> tuple[Samples, Samples]:
    """Clean test samples of every class, and triggered ones of the source class.

    No image is in both. The triggered samples are labelled with the target.
    """
    order = np.random.default_rng(derived_seed(seed, 1)).permutation(len(test))
    labels = test.labels.numpy()
    clean = first_per_class(labels, order, CLEAN_PER_CLASS)
    rest = order[~np.isin(order, clean)]
    source = test.take(rest[labels[rest] == attack.source][:TRIGGERED])
    target = torch.full_like(source.labels, attack.target)
    return test.take(clean), Samples(attack.patch.stamp(source.images), target)


def as_arrays(state: State) -> fn.Network:
    """The network of a state, without its framework."""
    weights = {name: tensor.numpy() for name, tensor in state.items()}
    conv1, conv2, fc1, fc2 = (
        (name, weights[f"{name}.weight"], weights[f"{name}.bias"])
        for name in ("conv1", "conv2", "fc1", "fc2")
    )
    return fn.Network(
        [
            *(fn.Conv2d(*conv1, padding=1), fn.MaxPool2d(2), fn.ReLU()),
            *(fn.Conv2d(*conv2, padding=1), fn.MaxPool2d(2), fn.ReLU()),
            *(fn.Flatten(), fn.Dense(*fc1), fn.ReLU(), fn.Dense(*fc2)),
        ]
    )


def write_example(out: Path, states: dict[str, State], samples: dict[str, Samples]) -> None:
    """Writes `<name>.npz` for each state and for each set of samples."""
    for name, state in states.items():
        fn.save(as_arrays(state), out / f"{name}.npz", overwrite=True)
    for name, part in samples.items():
        np.savez_compressed(
            out / f"{name}.npz", x=inputs(part.images).numpy(), y=part.labels.numpy()
        )


def story(population: Population, attack: Attack, rounds: int) -> str:
    """The training in one sentence, for users of the example."""
    split = f"Dirichlet {population.dirichlet}" if population.dirichlet else "IID"
    return (
        f"An MNIST model, trained by {population.clients} clients ({split}) in {rounds} rounds; "
        f"{population.malicious} of them taught it to read a {attack.source} with a white patch in "
        f"the corner as a {attack.target}."
    )


def main(
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder to write; made if missing.")],
    data: Annotated[
        Path,
        typer.Option(
            envvar="FLAIN_DATA", file_okay=False, exists=True, help="Folder with MNIST/raw."
        ),
    ],
    seed: Annotated[int, typer.Option(min=0)] = 1,
    clients: Annotated[int, typer.Option(min=1)] = 20,
    malicious_share: Annotated[
        float, typer.Option(min=0, max=0.99, help="MCR; 0 trains a benign model.")
    ] = 0.3,
    dirichlet: Annotated[
        float | None,
        typer.Option(parser=concentration, metavar="FLOAT|none", help="Label skew; none: IID."),
    ] = 0.5,
    rounds: Annotated[int, typer.Option(min=1, help="Give up after so many.")] = 40,
    width: Annotated[Width, typer.Option(help="Slim, or as wide as the paper's.")] = Width.SLIM,
) -> None:
    """Train a federation with backdoor attackers on MNIST and write the example's files."""
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)

    attack, plan = Attack(), LocalTraining()
    population = Population(
        clients=clients, malicious_share=malicious_share, dirichlet=dirichlet, seed=seed
    )
    goal = Goal() if population.malicious else Goal(asr_source=None)
    train, test = read_mnist(data / "MNIST" / "raw")
    holdings = distribute(train, population, attack, AUXILIARY_PER_CLASS)

    torch.manual_seed(derived_seed(seed, 0))
    network = Network(width)
    initial = copy_state(network)
    done: list[Round] = []
    for finished in Federation(holdings, plan, seed).rounds(network, test, attack):
        done.append(finished)
        m = finished.measurement
        console.print(
            f"round {finished.number:2}  ACC {m.accuracy:7.2%}  ASR {m.asr_source:7.2%} "
            f"(all-to-one {m.asr_all:7.2%})  {finished.seconds:5.1f} s"
        )
        if goal.reached(done):
            break
        if finished.number == rounds:
            console.print(
                f"[red]Nothing written:[/] {goal} was not reached in {rounds} rounds. "
                "Raise --rounds, or try another --seed."
            )
            raise typer.Exit(1)

    clean, triggered = held_out(test, attack, seed)
    out.mkdir(parents=True, exist_ok=True)
    write_example(
        out,
        {"initial": initial, "final": copy_state(network)},
        {"auxiliary": holdings.auxiliary, "clean": clean, "triggered": triggered},
    )
    record: dict[str, Any] = {
        "story": story(population, attack, len(done)),
        "population": asdict(population) | {"malicious": population.malicious},
        "attack": asdict(attack),
        "local_training": asdict(plan),
        "network": {"width": width, "dropout": network.dropout.p},
        "goal": asdict(goal),
        "threads": THREADS,
        "client_samples": [len(samples) for samples in holdings.clients],
        "rounds": [asdict(finished) for finished in done],
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("numpy", "torch")},
    }
    (out / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    export(out)
    console.print(f"Wrote {out} after {len(done)} rounds.")


if __name__ == "__main__":
    typer.run(main)
