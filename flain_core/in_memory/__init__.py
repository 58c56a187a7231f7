"""Scores the model and its candidates on samples in memory.

:class:`~flain_core.local_samples.LocalSamples` holds the samples; samples elsewhere are scored by
their holders, each in the same way.
"""
