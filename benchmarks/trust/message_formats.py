"""Messages between a server and trusted clients: how they are mutated and read, in each stack."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from . import messages, npy, raw, trees
from .children import Files
from .prepared import Prepared

SAMPLES = (np.random.default_rng(1).random((12, 6)).astype(np.float32), np.arange(12) % 3)
"""The samples of whoever is asked."""


def questions_and_answers() -> Prepared:
    """Return messages of trusted clients, as arrays by name."""
    model, question, answers = _conversation()
    seeds = [*question, *answers]

    def mutate(rng: Random) -> Files:
        index = rng.randrange(len(seeds))
        kind = "question" if index < len(question) else "answer"
        return {f"{kind}.json": messages.mutated(rng, seeds[index])}

    def read(path: Path) -> None:
        _read_message(path.stem, messages.read(path.read_bytes()), model)

    return Prepared(mutate, read)


def flower_messages() -> Prepared:
    """Return messages as Flower carries them: each array as bytes with a type and a shape."""
    from flwr.app import Array, ArrayRecord, RecordDict

    from flain_flower.purify import to_arrays

    model, asked, _ = _conversation()

    def mutate(rng: Random) -> Files:
        arrays = messages.read(rng.choice(asked))
        kept: dict[str, Any] = {}
        for name, array in arrays.items():
            packed = Array(np.asarray(array))
            kept[name] = [packed.dtype, list(packed.shape), packed.stype, packed.data.hex()]
        name = rng.choice(list(kept))
        how = rng.random()
        if how < 0.6:
            change = rng.choice((npy.mutated, raw.mutated))
            kept[name][3] = change(rng, bytes.fromhex(kept[name][3])).hex()
        else:
            kept = trees.mutated(rng, kept, ("numpy.ndarray", "pickle", "<f8", "|O", [2**40]))
        return {"message.json": json.dumps(kept).encode("utf-8", "surrogatepass")}

    def read(path: Path) -> None:
        kept = json.loads(path.read_bytes())
        try:
            record = ArrayRecord(
                {
                    name: Array(dtype, tuple(shape), stype, bytes.fromhex(data))
                    for name, (dtype, shape, stype, data) in kept.items()
                }
            )
            RecordDict({"flain": record})
        # What Flower itself refuses never arrives.
        except (AttributeError, TypeError, ValueError):
            return
        _read_message("question", to_arrays(record, "flain"), model)

    return Prepared(mutate, read)


def flare_messages() -> Prepared:
    """Return messages as NVIDIA FLARE carries them, on their way to a client and back."""
    from nvflare.apis.dxo import DXO, DataKind
    from nvflare.apis.fl_context import FLContext
    from nvflare.apis.shareable import Shareable
    from nvflare.apis.signal import Signal

    from flain_core.federated.trusted import _TrustedHolders
    from flain_nvflare import TrustedClients, answering
    from flain_nvflare.trusted_clients import TASK, _arrays

    model, asked, answers = _conversation()
    words: tuple[Any, ...] = (
        "APP_DEFINED",
        "WEIGHTS",
        "DXO",
        "OK",
        "EXECUTION_EXCEPTION",
        "__dxo_header__",
        {},
    )

    class Client(answering.Answering):
        def samples(self, fl_ctx: FLContext) -> Any:  # noqa: ARG002
            return SAMPLES

        def log_exception(self, *given: Any, **named: Any) -> None:
            """Tell nobody."""

    # No job runs here, so there is no folder of one.
    vars(answering)["custom_folder"] = lambda _: Path()
    client = Client("unused.npz", model)
    server = _TrustedHolders(TrustedClients(clients="all"), ["site-1"])

    def mutate(rng: Random) -> Files:
        seed = rng.choice((*asked, *answers))
        if rng.random() < 0.6:
            seed = messages.mutated(rng, seed)
        envelope: Any = DXO(DataKind.APP_DEFINED, data={"x": 0}).to_shareable()
        plain = json.loads(json.dumps(dict(envelope)))
        if rng.random() < 0.5:
            plain = trees.mutated(rng, plain, words)
        kept = {"envelope": plain, "arrays": seed.decode()}
        return {"message.json": json.dumps(kept).encode("utf-8", "surrogatepass")}

    def read(path: Path) -> None:
        kept = json.loads(path.read_bytes())
        message = Shareable()
        if isinstance(kept["envelope"], dict):
            message.update(kept["envelope"])
            if isinstance(message.get("DXO"), dict):
                message["DXO"]["data"] = messages.read(kept["arrays"].encode())
        replied = client.execute(TASK, message, FLContext(), Signal())
        for each in (message, replied):
            said = server._answer("site-1", server._read(partial(_arrays, each), 1.0))
            if isinstance(said, Exception):
                raise said

    return Prepared(mutate, read)


def _conversation() -> tuple[Any, list[bytes], list[bytes]]:
    """Return an architecture, questions about it, and answers to them."""
    import flain_numpy as fn
    from flain_core.federated.holder import answered
    from flain_core.federated.messages import ModelState, Question
    from flain_core.federated.wire import write_question, write_trained

    trained = fn.Network(
        [
            fn.Dense("fc1", np.ones((4, 6), np.float32)),
            fn.ReLU(),
            fn.Dense("fc2", np.eye(3, 4, dtype=np.float32)),
        ]
    )
    initial = np.zeros((4, 6), np.float32)
    flipping = ModelState(layer="fc1", initial=initial, order=np.array([3, 1, 0]), window=1e-6)
    changed = ModelState({"fc1": np.full((4, 6), 0.5, np.float32)}, "fc2")
    questions = [
        Question("statistics", ModelState(layer="fc1")),
        Question("proof", flipping, (2,), seed=3),
        Question("candidates", flipping, (0, 1, 3), loss=True),
        Question("in full", flipping, (1, 2), loss=True, outputs="logits"),
        Question("statistics", changed),
    ]
    asked = [write_question(each) | write_trained(trained) for each in questions]
    answers = [answered(each, trained, SAMPLES) for each in asked]
    return trained, list(map(messages.written, asked)), list(map(messages.written, answers))


def _read_message(kind: str, arrays: dict[str, Any], model: Any) -> None:
    """Read a question as a client does, or an answer as a server does."""
    from flain_core.federated.checks import check_answer
    from flain_core.federated.holder import answered
    from flain_core.federated.messages import ModelState, Question
    from flain_core.federated.wire import read_answer

    if kind == "question":
        answered(arrays, model, SAMPLES)
        return
    answer = read_answer(arrays)
    layer = model.layers()["fc1"]
    for task in ("statistics", "proof", "candidates", "in full"):
        question = Question(task, ModelState(layer="fc1"), (0, 1, 3), loss=True)
        try:
            check_answer(answer, question, layer=layer, probes=(), classify=True)
        # An answer fits one of them at most.
        except Exception as error:
            from flain_core import FlainError

            if not isinstance(error, FlainError):
                raise
