"""A client of the NumPy job: site-1 teaches the backdoor of `backdoored`."""

import backdoored
import numpy as np
import nvflare.client as flare

SHAPES = [((10, 12), (10,)), ((7, 10), (7,)), ((3, 7), (3,))]


def parameters(vector):
    """The weights and biases in a flat vector."""
    parts = []
    for shapes in SHAPES:
        pair = []
        for shape in shapes:
            size = int(np.prod(shape))
            pair.append(vector[:size].reshape(shape).astype(np.float64))
            vector = vector[size:]
        parts.append(tuple(pair))
    return parts


def main():
    flare.init()
    number = int(flare.get_site_name().removeprefix("site-"))
    x, y = backdoored.samples(600, seed=number)
    if number == 1:
        bad_x, bad_y = backdoored.triggered(300, seed=20)
        x, y = np.vstack([x, bad_x]), np.concatenate([y, bad_y])
    while flare.is_running():
        received = flare.receive()
        if received is None:
            break
        trained = backdoored.trained(parameters(received.params["numpy_key"]), x, y, steps=150)
        vector = np.concatenate([array.ravel() for pair in trained for array in pair])
        flare.send(flare.FLModel(params={"numpy_key": vector.astype(np.float32)}))


if __name__ == "__main__":
    main()
