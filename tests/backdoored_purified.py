"""How tests purify the network of :mod:`backdoored`: with the same samples, unless told."""

import backdoored

import flain_core as flain

CLEAN = backdoored.samples(300, seed=11)
TRIGGERED = backdoored.triggered(200, seed=12)


def purify(pair, **options):
    """Purify the second network of the pair, which was trained from the first."""
    initial, final = pair
    return flain.purify(final, **{"initial": initial, "data": CLEAN} | options)


def weight(network, layer="fc1"):
    """Return the weight of a layer, ``(out, in)``."""
    return network.layers()[layer].weight
