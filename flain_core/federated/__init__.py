"""Auxiliary samples that lie with several holders: clients of a federation, actors of a cluster.

The coordinator asks, holders answer with sums and counts; no sample ever travels. A stack supplies
only how to send: see :class:`~flain_core.federated.coordinator.Holders`.
"""
