"""The backends that are known: those of flain, and those that other packages offer."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from flain_core.errors import FlainWarning, ModelError
from flain_core.extras import MissingExtraError, how_to_install

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@dataclass(frozen=True)
class Backend:
    """A package that opens models.

    It exports ``open_network(model, *, like=None)``, which returns a
    :class:`~flain_core.Network`; ``load(path)`` if it reads files;
    ``save(model, path, *, overwrite=False)`` if it writes any, with a further parameter
    ``mark=None`` if they can carry a text (:mod:`flain_core.provenance.mark`), which ``load`` then
    hands to :func:`flain_core.provenance.purified_before.carry`, or ``mark_of(model)`` finds in the
    model; and
    ``arrays_of(model, *, buffers=True)``, the inverse of opening bare weights, if these may be
    plain arrays: a dict of new arrays by name, in the framework's own order, which ``open_network``
    takes and puts into the architecture of ``like``. Without buffers it holds what a flat vector of
    the framework's parameters holds. Where models may have low-rank adapters,
    ``adapter_off(model)`` opens one without its adapter, and ``adapter_names(model)`` pairs the
    names in an adapter's file with those of ``arrays_of``.

    Attributes:
        module: What to import.
        opens: Qualified names of the classes that it opens, subclasses included.
        reads: Suffixes of the files it loads without further help.
        writes: Suffixes of the files it saves.
        install: Instructions for installing it.
        distributions: Packages whose versions belong in a report.

    Example:
        What a package names under the entry-point group ``flain.backends``:

        >>> BACKEND = Backend(
        ...     module="flain_my_framework",
        ...     opens=("my_framework.models.Model",),
        ...     reads=(".mine",),
        ...     writes=(".mine",),
        ...     install="pip install flain-my-framework",
        ...     distributions=("my-framework",),
        ... )
        >>> BACKEND.opens
        ('my_framework.models.Model',)
    """

    module: str
    opens: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    install: str
    distributions: tuple[str, ...]

    def load_module(self) -> ModuleType:
        """Import the backend.

        Raises:
            ModelError: That fails; the message has the install hint.
        """
        try:
            return import_module(self.module)
        except MissingExtraError as error:
            raise ModelError(f"this model cannot be handled here: {error}") from error
        # Keras raises ValueError for an engine that it does not know; a broken library, OSError.
        except Exception as error:
            raise ModelError(
                f"this model needs the backend {self.module}, which cannot be imported ({error}); "
                f"{self.install}"
            ) from error


_BUILT_IN = (
    Backend(
        module="flain_numpy",
        opens=("flain_numpy.network.Network",),
        reads=(".npz",),
        writes=(".npz",),
        install="it comes with flain: pip install flain",
        distributions=("numpy",),
    ),
    Backend(
        module="flain_torch",
        # An exported program is no module, and is told what to give instead.
        opens=("torch.nn.modules.module.Module", "torch.export.exported_program.ExportedProgram"),
        reads=(),
        writes=(".safetensors", ".pt", ".pth"),
        install=how_to_install("torch"),
        distributions=("torch",),
    ),
    Backend(
        module="flain_sklearn",
        # Any estimator, so that a pipeline is told what to give instead.
        opens=("sklearn.base.BaseEstimator",),
        reads=(),
        writes=(),
        install=how_to_install("sklearn"),
        distributions=("scikit-learn",),
    ),
    Backend(
        module="flain_onnx",
        opens=("onnx.onnx_ml_pb2.ModelProto", "flain_onnx._model.OnnxModel"),
        reads=(".onnx",),
        writes=(".onnx",),
        install=how_to_install("onnx"),
        distributions=("onnx", "onnxruntime"),
    ),
    Backend(
        module="flain_keras",
        # A Keras layer is no model; but on the torch engine it would pass as a torch module.
        opens=("keras.src.layers.layer.Layer", "flain_keras._network.KerasNetwork"),
        reads=(".keras", ".h5"),
        writes=(".keras", ".h5"),
        install=f"{how_to_install('keras')}, and an engine: tensorflow, or jax or torch with "
        "KERAS_BACKEND set to its name",
        distributions=("keras", "tensorflow", "tensorflow-cpu", "jax", "torch"),
    ),
)


def built_in(module: str) -> ModuleType:
    """Import one of our backends; raise :class:`ModelError` with the install hint if that fails.

    >>> built_in("flain_numpy").__name__
    'flain_numpy'
    """
    return next(each for each in _BUILT_IN if each.module == module).load_module()


def backends() -> Iterator[Backend]:
    """Yield the built-in backends, then those that others offer."""
    yield from _BUILT_IN
    yield from third_party()


@cache
def third_party() -> tuple[Backend, ...]:
    """Load what entry points under ``flain.backends`` name: objects of type :class:`Backend`."""
    from importlib.metadata import entry_points

    found = map(_loaded, entry_points(group="flain.backends"))
    return tuple(backend for backend in found if backend is not None)


def _loaded(entry_point: EntryPoint) -> Backend | None:
    """Load a backend; warn of one that is broken, which shall stop nobody from using the others."""
    try:
        backend = entry_point.load()
        if not isinstance(backend, Backend):
            raise TypeError(f"it is a {type(backend).__name__}, not a flain.Backend")
        named = (backend.opens, backend.reads, backend.writes)
        if not all(isinstance(each, tuple) for each in named):
            raise TypeError("expected tuples of names in opens, reads and writes")
    # Somebody else's package may raise anything when it is imported.
    except (Exception, SystemExit) as error:
        warnings.warn(
            f"the backend {entry_point.name!r} ({entry_point.value}) cannot be loaded and is left "
            f"out: {type(error).__name__}: {error}",
            FlainWarning,
            stacklevel=2,
        )
        return None
    return backend
