"""Purifications to report, each of another kind, by name."""

import warnings
from dataclasses import replace

import backdoored
import numpy as np
from in_process import InProcess, split

import flain_core as flain
import flain_numpy as fn
from flain_core import Promise, Settings
from flain_core.federated.coordinator import CoordinatedSamples

CLEAN = backdoored.samples(300, seed=11)
PROBES = {"ASR": backdoored.triggered(90, seed=3)}
INITIAL, FINAL = backdoored.networks()

HOSTILE = (
    "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}</title></style>"
    "\x1b[2J\x00\u202e $x_{$ __ \ud800"
)


def _purify(**options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", flain.FlainWarning)
        return flain.purify(FINAL, **{"initial": INITIAL, "data": CLEAN} | options)


def usual():
    return _purify(probes=PROBES)


def neurons():
    """In neurons, and with more steps than a page shows."""
    result = _purify(settings=Settings(flip="neurons"), probes=PROBES)
    (layer,) = result.layers
    scores = {"ASR": 0.25}
    longer = [flain.Step(1 + i / 1000, 12, 0.5, scores, loss=0.1) for i in range(1500)]
    return replace(result, layers=(replace(layer, steps=(*layer.steps, *longer)),))


def no_probes():
    return _purify(settings=Settings(held_back=0))


def promised():
    return _purify(settings=Settings(promise=0.05))


def promised_too_much():
    return _purify(settings=Settings(promise=0.001))


def several_layers():
    return _purify(layers="dense", probes=PROBES)


def scored():
    return _purify(score=lambda scores, y: -np.square(scores.argmax(axis=1) - y).astype(float))


def elsewhere():
    return _purify(data=CoordinatedSamples(InProcess(split(CLEAN, 3)[0])))


def not_flipped():
    return _purify(settings=Settings(tolerance=0.0, held_back=0), layers="fc3", probes=PROBES)


def partly_flipped():
    """Two layers, of which the second makes the verdict."""
    result = usual()
    (layer,) = result.layers
    little = replace(layer, name="fc1", share=0.05, class_share=0.02)
    for_a_class = replace(layer, name="fc2", share=0.03, class_share=0.3, most_flipped_class=2)
    notes = ("partly flipped: of 'fc2', some was flipped",)
    return replace(result, layers=(little, for_a_class), notes=notes)


def convolution():
    """A dense layer behind a convolution; an update in a few of its inputs."""
    rng = np.random.default_rng(5)
    kernel, dense = rng.normal(size=(4, 1, 3, 3)), rng.normal(size=(3, 4 * 3 * 5)) * 0.1
    operations = [fn.Conv2d("conv", kernel.astype(np.float32), padding=1), fn.ReLU()]
    operations += [fn.MaxPool2d(2), fn.Flatten()]
    initial = fn.Network([*operations, fn.Dense("fc", dense.astype(np.float32))])
    update = np.where(rng.random(dense.shape) < 0.2, 0.3, 0.0)
    final = fn.Network([*operations, fn.Dense("fc", (dense + update).astype(np.float32))])
    x = rng.normal(size=(240, 1, 6, 10)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", flain.FlainWarning)
        return flain.purify(final, initial=initial, data=(x, final.predict(x).argmax(axis=1)))


def many_classes():
    result = usual()
    classes = tuple(
        replace(result.by_class[0], label=label, samples=9, right_before=8, right_after=label % 9)
        for label in range(150)
    )
    return replace(result, by_class=classes)


def nothing_known():
    """An outcome as an older version, or a hand, may have made it."""
    result = usual()
    layers = tuple(replace(each, norms=None, grid=None) for each in result.layers)
    bare = flain.Measurement(0.9)
    steps = tuple(replace(step, probes={}, loss=None) for step in layers[0].steps)
    layers = (replace(layers[0], steps=steps), replace(layers[0], name="idle", steps=()))
    return replace(
        result, before=bare, after=bare, layers=layers, by_class=(), promise=None, versions={}
    )


def hostile():
    result = usual()
    (layer,) = result.layers
    steps = tuple(replace(step, probes={HOSTILE: 0.5}) for step in layer.steps)
    samples = {"clean": 240, HOSTILE: 50}
    return replace(
        result,
        before=replace(result.before, probes={HOSTILE: 0.5}, samples=samples),
        after=replace(result.after, probes={HOSTILE: 0.5}, samples=samples),
        layers=(replace(layer, name=HOSTILE, steps=steps, why_method=HOSTILE, method="none"),),
        notes=(HOSTILE,),
        versions={HOSTILE: HOSTILE},
        files={HOSTILE: HOSTILE},
        promise=Promise.of(50, 2, 0.9),
    )


KINDS = {
    each.__name__: each
    for each in (
        *(usual, neurons, no_probes, promised, promised_too_much, several_layers, scored),
        *(
            elsewhere,
            not_flipped,
            partly_flipped,
            convolution,
            many_classes,
            nothing_known,
            hostile,
        ),
    )
}
