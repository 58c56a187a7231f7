"""A network whose cuts are others, for tests of what a search asks of them."""


class Recut:
    """``change`` makes of each cut of ``network`` the members that differ, by name."""

    def __init__(self, network, change):
        self.network, self.change = network, change
        self.layers, self.predict = network.layers, network.predict

    @property
    def native(self):
        return self.network

    def replace(self, weights, biases=None):
        return Recut(self.network.replace(weights, biases), self.change)

    def cut(self, layer, x):
        return OtherCut(self.network.cut(layer, x), self.change)


class OtherCut:
    def __init__(self, cut, change):
        self.cut = cut
        vars(self).update(change(cut))

    def __getattr__(self, name):
        return getattr(self.cut, name)
