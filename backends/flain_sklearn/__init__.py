"""scikit-learn's multilayer perceptrons for flain: MLPClassifier and MLPRegressor.

Layers are called ``coefs_0``, ``coefs_1`` and so on, after their place in ``coefs_``. Labels are
indices into ``classes_``: ``np.searchsorted(model.classes_, y)``. scikit-learn keeps no initial
weights, and has none before the first call of ``partial_fit``: make that with a few clean samples,
and keep a copy of the estimator, or of its ``coefs_``, before any client trains. A regressor needs
``score=`` of :func:`flain_core.purify`, a function of its predictions ``(n, outputs)`` and y.
No files are read or written, as scikit-learn's own are pickles: save ``result.model`` with joblib
or, safer to load, skops.

>>> import numpy as np, warnings
>>> import flain_core as flain
>>> from sklearn.neural_network import MLPClassifier
>>> random = np.random.default_rng(0)
>>> x = random.random((150, 4))
>>> y = (x[:, 0] > x[:, 1]).astype(int)
>>> model = MLPClassifier(hidden_layer_sizes=(20,), learning_rate_init=0.05, random_state=0)
>>> model = model.partial_fit(x[:20], y[:20], classes=[0, 1])
>>> initial = {"coefs_": [each.copy() for each in model.coefs_]}
>>> for _ in range(20):
...     model = model.partial_fit(x, y)
>>> result = flain.purify(model, initial=initial, data=(x, y), layers="coefs_1")
>>> type(result.model).__name__, result.layers[0].method
('MLPClassifier', 'incremental')
"""

from __future__ import annotations

from flain_core.extras import needs

with needs("flain_sklearn", "sklearn", "sklearn"):
    from ._network import SklearnNetwork, arrays_of, open_network

__all__ = ["SklearnNetwork", "arrays_of", "open_network"]
