"""The main call: open, cut, measure, search, write back, verify."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from .errors import FlainWarning, levels_to_caller
from .layer_choice import (
    further_weights,
    initial_weights,
    notes_on_choice,
    refused_of_group,
)
from .local_samples import source_of
from .opening import registry
from .options import MEMORY_LIMIT, explains_wrong_calls
from .outcome.measurement import Measurement
from .outcome.notes import notes_on
from .outputs import Outputs
from .per_layer import SearchContext, purify_layers
from .progress import OnProgress, listening
from .provenance.fingerprint import of_model
from .provenance.purified_before import check_not_purified, remember
from .purification import Purification
from .reporting.details import by_class, with_details
from .score import Score, accuracy
from .settings import Settings, settings_or_default, whole_number
from .storage.files import hashes
from .swapped import check_not_swapped
from .threads import one_blas_thread


@explains_wrong_calls
@np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")
def purify(
    model: Any,
    *,
    initial: Any,
    data: Any,
    layers: str | Sequence[str] = "auto",
    settings: Settings | None = None,
    probes: Mapping[str, Any] | None = None,
    score: Score = accuracy,
    outputs: Outputs | None = None,
    progress: bool | OnProgress = False,
    batch_size: int | None = None,
    memory_limit: int = MEMORY_LIMIT,
    seed: int = 0,
    again: bool = False,
) -> Purification:
    """Remove a backdoor from a trained model, and report what was done.

    Backdoors live where clean data hardly activates a layer. So the weight update of a layer is
    flipped there, ever further, until the clean samples begin to lose the probability of their true
    class. In dense layers it is flipped in directions of the input space
    (:mod:`flain_core.in_directions.directions`), elsewhere in whole input neurons of low
    activation, as in the paper (Ding, Yang and Huang, "FLAIN", ICMR 2025, doi
    10.1145/3731715.3733342).

    Purify once: purifying the result again with the same initial model flips the updates back, and
    may bring back the backdoor. So a model that this process purified, and a file that carries the
    mark of :meth:`Purification.save`, are refused, unless ``again`` is True.

    Args:
        model: The trained global model: a framework's model, the path of a file that holds a whole
            model, or any object with the methods of :class:`Network`. It is never changed.
        initial: The model that training started from, likewise; for PyTorch also its state dict.
            None stands for a model of PyTorch with its LoRA adapter off.
        data: A few hundred clean samples with labels: ``(x, y)``, a loader or dataset of such
            pairs, or the path of an ``.npz`` file with ``x`` and ``y``. Or an
            :class:`~flain_core.sample_source.SampleSource`, where the samples lie elsewhere.
        layers: ``"auto"`` (the first dense layer, and the next ones while they matter little),
            ``"dense"``, ``"conv"``, ``"all"``, or names.
            Several layers are purified in order, each on the result of the one before, and share
            the tolerance.
        settings: Decides how the search goes; the defaults are the same for every model.
        probes: Further samples by name, in any form that ``data`` may have. They are measured at
            every step and reported, and never influence the search. With the attacker's target as
            labels of triggered samples, a probe's score is the attack success rate.
        score: A function of (scores, y) that gives each sample's worth; top-1 accuracy by default.
        outputs: What the scores of a classifier are: ``"logits"`` or ``"probabilities"``; None
            recognises it and says so.
        progress: True prints to stderr; a function receives a :class:`Progress` at each step.
        batch_size: Samples per pass; None chooses by what a sample takes, at the layer too.
        memory_limit: Bytes that may be kept at the layer, beside two copies of the weight that is
            being purified and, with a ``batch_size`` of yours, what one batch takes at work. What
            does not fit is run again for each candidate. Inputs of a loader or dataset that take
            more than an eighth of it are drawn anew in each pass, and must come in the same order.
        seed: Splits the samples, and chooses the neurons in the proof of the cut: the only random
            choices.
        again: Purify a model that was purified before, all the same.

    Returns:
        The purified model, what it scored before and after, and every step of the search.

    Raises:
        SettingsError: An option is out of range.
        ModelError: A model cannot be opened, cannot be run on the data, or was purified before.
        TypeError: The call has another form.
        LayerError: A layer does not exist, is not supported, or cannot be measured.
        WeightsError: Initial and final model do not belong together, are equal, or are not finite.
        DataError: The data is empty, not finite, or does not fit the model.

    Example:
        A network whose third input is a trigger: silent in clean data, wired to class 1.

        >>> import numpy as np
        >>> from flain_numpy import Dense, Network
        >>> initial = Network([Dense("scores", np.array([[0.1, 0.0, 0.0], [0.0, 0.1, 0.0]]))])
        >>> final = Network([Dense("scores", np.array([[1.0, 0.0, -9.0], [0.0, 1.0, 9.0]]))])
        >>> x = np.array([[1.0, 0.2, 0.0], [0.3, 0.9, 0.0], [0.8, 0.1, 0.0], [0.2, 0.6, 0.0]])
        >>> x, y = np.tile(x, (25, 1)), np.tile([0, 1, 0, 1], 25)
        >>> result = purify(final, initial=initial, data=(x, y))
        >>> result.layers[0].flipped
        array([False, False,  True])
        >>> result.model.predict(np.array([[1.0, 0.2, 1.0]])).argmax(axis=1)
        array([0])
    """
    started = time.perf_counter()
    settings = settings_or_default(settings)
    seed = whole_number(seed, "seed", least=0)
    source = source_of(
        data,
        probes=probes,
        score=score,
        outputs=outputs,
        batch_size=batch_size,
        memory_limit=memory_limit,
    )
    settings = settings.resolved(classify=source.facts.classify, local=source.facts.local)
    files = hashes((model, initial, data, *(probes or {}).values()))
    network, mark = registry.open_with_mark(model)
    start = registry.open_network(initial, like=model)
    weights = initial_weights(network, start, layers)
    known_before = check_not_purified(mark, network.layers(), start.layers(), again=again)
    unpurified, refused = of_model(network.layers()), refused_of_group(network, layers)
    with one_blas_thread(), listening(progress) as on_progress:
        scorer = source.scorer(network, settings, seed)
        context = SearchContext(scorer, settings, source.facts, on_progress, seed)
        further = partial(further_weights, network, start, layers, next(iter(weights)))
        purified = purify_layers(network, weights, context, further)
        classes = by_class(scorer)
        taken = [outcome.name for outcome in purified.outcomes]
        untrained = start.layers()
        weights = {name: np.asarray(untrained[name].weight) for name in taken}
        outcomes = tuple(
            with_details(purified.outcomes, network, weights, purified.network, scorer)
        )
        held_back = scorer.held_back
        promise = None
        if held_back and context.bears_out_a_promise(purified.before.clean):
            promise = held_back.promise(purified.network)
    check_not_swapped(scorer, source.facts, start, purified.before.clean)
    choice = notes_on_choice(network, layers, refused, taken)
    notes = tuple(notes_on(purified, context, choice, promise, classes))
    notes = (known_before, *notes) if known_before else notes
    remember(purified.network, purified.outcomes)
    if purified.before.loss is not None:
        settings = replace(settings, measure="probability")
    serious = [note for note in notes if isinstance(note, FlainWarning)]
    for note in serious:
        if str(note) not in scorer.left_out:
            warnings.warn(note, stacklevel=levels_to_caller())
    asked = scorer.asked
    # The trained model makes room for the copy that is returned.
    del network, start, weights, scorer, held_back, context
    native = purified.network.native
    return Purification(
        model=native,
        before=Measurement.of(purified.before, classify=source.facts.classify),
        after=Measurement.of(purified.after, classify=source.facts.classify),
        layers=outcomes,
        settings=settings,
        seconds=time.perf_counter() - started,
        promise=promise,
        unpurified=unpurified,
        notes=tuple(map(str, notes)),
        warnings=tuple(map(str, serious)),
        versions={"python": sys.version.split()[0]} | registry.versions(native),
        files=files,
        by_class=classes,
        asked=asked,
    )
