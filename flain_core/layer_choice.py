"""Chooses the layers to purify, each with the weight that training started from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import numpy as np

from .blocks import largest_of
from .errors import FlainWarning, LayerError, ModelError, Note, WeightsError, listed, nearest
from .network import Array, Layer, Network, refused_layers

_ONE_OF = 100  # at most one of so many weights is an outlier
_FAR_BEYOND = 10.0
_MANY_DENSE = 6
_GROUPS = ("dense", "conv", "all")


def initial_weights(
    final: Network, initial: Network, layers: str | Sequence[str]
) -> dict[str, Array]:
    """Choose layers of the final network and pair them with those of the initial one.

    Args:
        final: The trained network.
        initial: The network that training started from.
        layers: ``"auto"`` (the first dense layer), ``"dense"``, ``"conv"``, ``"all"``, a layer's
            name, or names in the order in which they are to be purified.

    Returns:
        The initial weights ``(out, in / groups, *kernel)`` by name of layer, in that order.

    Raises:
        LayerError: There is no such layer, or it cannot be purified.
        WeightsError: The two networks do not belong together, hold NaN or infinity, or are equal.
    """
    ours, theirs = final.layers(), initial.layers()
    names = chosen_layers(final, layers)
    _check_same_architecture(ours, theirs)
    # A backend may know that weights alone do not tell what training changed.
    if (check := getattr(final, "check_initial", None)) is not None:
        check(initial, names)
    if all(np.array_equal(ours[name].weight, theirs[name].weight) for name in names) and (
        changed := _changed(final, initial, _behind(final, layers, names[0]))
    ):
        return initial_weights(final, initial, changed[:1])
    weights = {name: np.asarray(theirs[name].weight) for name in names}
    for name, weight in weights.items():
        for which, each in (("final", ours[name].weight), ("initial", weight)):
            if not np.isfinite(each).all():
                raise WeightsError(
                    f"the {which} weight of layer {name!r} holds NaN or infinity; training "
                    "diverged or the file is damaged"
                )
        _check_plausible(name, ours[name].weight, weight)
    if all(np.array_equal(ours[name].weight, weight) for name, weight in weights.items()):
        raise WeightsError(_equal(final, initial, names))
    return weights


def _check_plausible(name: str, final: Array, initial: Array) -> None:
    """Refuse initial weights of which a few are far beyond all others and the final ones.

    The least flip of such an update would move the scores so much that all others stay as they are.
    """
    largest = largest_of(final)
    if largest_of(initial) <= _FAR_BEYOND * largest:
        return
    size = np.abs(initial.astype(np.float64)).ravel()
    few = max(1, size.size // _ONE_OF)
    if size.size <= few:
        return
    usual = max(np.partition(size, -few - 1)[-few - 1], largest)
    far = np.flatnonzero(size > _FAR_BEYOND * usual)
    if usual and far.size:
        place = ", ".join(map(str, np.unravel_index(far[0], initial.shape)))
        raise WeightsError(
            f"{far.size} of the {size.size} initial weights of layer {name!r} "
            f"{'is' if far.size == 1 else 'are'} far beyond all others and the final ones "
            f"({initial.ravel()[far[0]]:.4g} at [{place}]; the others are at most {usual:.4g}); "
            "the initial model is damaged, forged, or not the one that training started from: give "
            "that one"
        )


def chosen_layers(network: Network, layers: str | Sequence[str]) -> list[str]:
    """Return the names of the layers to purify, in order.

    Args:
        network: The trained network, or one of the same architecture.
        layers: As in :func:`initial_weights`.

    Raises:
        LayerError: There is no such layer, or it cannot be purified.
    """
    if not isinstance(layers, (str, Sequence)):
        raise LayerError(
            'expected layers to be "auto", "dense", "conv", "all", or names of layers; got '
            f"{layers!r}"
        )
    found = network.layers()
    if not isinstance(found, Mapping) or not all(isinstance(x, Layer) for x in found.values()):
        raise ModelError(
            "expected the network's layers() to return a dict of flain.Layer by name; its backend "
            f"gave {found!r:.100}"
        )
    if not found:
        refused = refused_layers(network)
        raise LayerError(
            f"no layer of the model can be purified: {_reasons(refused)}"
            if refused
            else "the model has no fully connected or convolutional layer to purify"
        )
    if isinstance(layers, str):
        if layers in found:
            return [layers]
        if layers in ("auto", *_GROUPS):
            return _of_kind(network, found, layers)
        layers = [layers]
    names = list(layers)
    if not names or not all(isinstance(name, str) for name in names):
        raise LayerError(f"expected the names of one or more layers; got {names!r}. {_list(found)}")
    if len(set(names)) < len(names):
        raise LayerError(f"expected each layer once; got {', '.join(names)}")
    for name in names:
        if name not in found:
            # A backend knows why it left a layer out, and says so itself.
            network.replace({name: np.zeros((1, 1), dtype=np.float32)})
            raise LayerError(f"there is no layer {name!r}.{nearest(name, found)} {_list(found)}")
    return names


def further_weights(
    final: Network, initial: Network, layers: str | Sequence[str], taken: str
) -> dict[str, Array]:
    """Return the initial weights of the layers to which ``"auto"`` goes on, in order.

    They are the dense ones behind the layer that was taken, if training changed them and nothing is
    wrong with them.
    """
    found: dict[str, Array] = {}
    for name in _changed(final, initial, _behind(final, layers, taken)):
        with suppress(WeightsError):
            found |= initial_weights(final, initial, [name])
    return found


def _behind(network: Network, layers: str | Sequence[str], taken: str) -> list[str]:
    found = network.layers()
    if layers != "auto" or "auto" in found:
        return []
    dense = _of_kind(network, found, "dense")
    return dense[dense.index(taken) + 1 :]


def _changed(final: Network, initial: Network, names: Sequence[str]) -> list[str]:
    ours, theirs = final.layers(), initial.layers()
    return [name for name in names if not np.array_equal(ours[name].weight, theirs[name].weight)]


def refused_of_group(network: Network, layers: str | Sequence[str]) -> Mapping[str, str]:
    """Return why layers are refused where ``"auto"`` or a group was asked for, by name."""
    by_name = not isinstance(layers, str) or layers in network.layers()
    return {} if by_name else refused_layers(network)


def notes_on_choice(
    network: Network,
    layers: str | Sequence[str],
    refused: Mapping[str, str],
    taken: Sequence[str],
) -> Iterator[Note]:
    """Yield what ``"auto"`` or a group leaves out; a warning if ``"auto"`` could not take it.

    Args:
        network: The trained network.
        layers: As in :func:`initial_weights`.
        refused: As :func:`refused_of_group` returns it.
        taken: Names of the layers that were searched, in order.
    """
    found = network.layers()
    if layers != "auto" or "auto" in found:
        for name, reason in refused.items():
            yield f"{name!r} was left out, as it cannot be purified: {reason}"
        return
    *others, last = taken
    first = taken[0]
    dense = [name for name, layer in found.items() if layer.kind == "dense"]
    if unchanged := dense[: dense.index(first)]:
        yield f'"auto" passed by {_named(unchanged)}, which training did not change'
    if others:
        yield (
            f'"auto" went on from {_named(others)} to {last!r}, as everything could be flipped '
            "there at next to no loss"
        )
    of_changed = ", of those that training changed" if unchanged else ""
    if refused:
        yield FlainWarning(
            f'"auto" took {first!r}, the first dense layer that can be purified{of_changed}; '
            f"others cannot, which may come before it: {_reasons(refused)}"
        )
    elif len(dense) >= _MANY_DENSE and not others:
        yield (
            f'"auto" took {first!r}, the first of {len(dense)} dense layers{of_changed}; in a '
            "transformer that is a projection inside the first block, where a backdoor need not "
            f"be. Name another layer, such as {dense[-1]!r}, or several"
        )


def _named(names: Sequence[str]) -> str:
    return listed([repr(name) for name in names])


def _reasons(refused: Mapping[str, str]) -> str:
    return listed([f"{name!r}: {reason}" for name, reason in refused.items()], "; ")


def _of_kind(network: Network, found: Mapping[str, Layer], layers: str) -> list[str]:
    if layers == "all":
        return list(found)
    kind = "dense" if layers == "auto" else layers
    names = [name for name, layer in found.items() if layer.kind == kind]
    if not names:
        refused = refused_layers(network)
        reasons = f". Refused: {_reasons(refused)}" if refused else ""
        others = '. Say layers="conv" to take them all' if kind == "dense" and found else ""
        raise LayerError(
            f"the model has no {kind} layer that can be purified. {_list(found)}{reasons}{others}"
        )
    return names[:1] if layers == "auto" else names


def _list(found: Mapping[str, Layer]) -> str:
    return "Layers that can be purified: " + ", ".join(map(repr, found))


def _check_same_architecture(ours: Mapping[str, Layer], theirs: Mapping[str, Layer]) -> None:
    remedy = "give the model that training started from, of the same architecture"
    if list(ours) != list(theirs):
        extra = sorted(set(ours) ^ set(theirs)) or list(theirs)
        raise WeightsError(
            "initial and final model have different layers; only one of them has "
            f"{', '.join(map(repr, extra))}, or their order differs; {remedy}"
        )
    for name, layer in ours.items():
        if layer.bias is not None and len(layer.bias) != len(layer.weight):
            raise ModelError(
                f"layer {name!r} has {len(layer.weight)} outputs and shows a bias of "
                f"{len(layer.bias)}; its backend is wrong"
            )
        other = theirs[name]
        mine, its = ((each.kind, each.weight.shape, each.groups) for each in (layer, other))
        if mine != its:
            raise WeightsError(
                f"layer {name!r} differs between final and initial model: (kind, weight shape, "
                f"groups) is {mine} and {its}; {remedy}"
            )
        if (layer.weight.dtype, layer.epsilon) != (other.weight.dtype, other.epsilon):
            final, initial = (
                f"{each.weight.dtype}, computed with relative errors of {each.epsilon:.1g}"
                for each in (layer, other)
            )
            raise WeightsError(
                f"layer {name!r} is {final} in the final model and {initial} in the initial one; "
                "convert one of them, or build both with the same dtype policy"
            )


def _equal(final: Network, initial: Network, names: list[str]) -> str:
    theirs = initial.layers()
    trained = [
        name
        for name, mine in final.layers().items()
        if not np.array_equal(mine.weight, theirs[name].weight)
    ]
    if not trained:
        return (
            "initial and final model have equal weights: nothing was trained, or the same model "
            "was given twice; the initial one has to be the model before training. A PyTorch "
            "state_dict() shares memory with its model: keep copy.deepcopy(model.state_dict())"
        )
    return (
        f"training did not change {', '.join(map(repr, names))}, so there is no weight update to "
        f"flip; it did change {_named(trained)}: choose layers among "
        f"those, such as {trained[0]!r}"
    )
