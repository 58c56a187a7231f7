"""The workflow that purifies: it watches training, and acts when its turn comes.

:func:`add_purification` puts it into NVIDIA FLARE's recipes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from nvflare.apis.analytix import AnalyticsDataType
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_context import FLContext
from nvflare.apis.utils.analytix_utils import create_analytic_dxo, send_analytic_dxo
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.abstract.learnable_persistor import LearnablePersistor
from nvflare.app_common.abstract.model import ModelLearnableKey, make_model_learnable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.workflows.model_controller import ModelController

from flain_core import (
    FlainError,
    OutputError,
    Progress,
    Purification,
    PurifiedArrays,
    Settings,
    SettingsError,
    WeightsError,
)
from flain_core.outcome.verdict import reason_for
from flain_core.outputs import OUTPUTS, Outputs
from flain_core.reporting.metrics import metrics_of
from flain_core.settings import one_of
from flain_core.storage.files import check_writable

from .arguments import (
    architecture,
    checked_path,
    custom_folder,
    plain,
    read_initial,
    run_folder,
    settings_of,
)
from .job import Job
from .training import SavedModel, Training
from .trusted_clients import TrustedClients

OnError = Literal["raise", "keep"]


class Purify(ModelController):
    """Purify the global model after training, and let the persistor save it.

    A server workflow: it comes after any workflow that trains, and before any that evaluates. It
    takes the initial model from the job's events, reads back what the persistor saved, purifies
    that and saves it in its place. The unpurified model stays beside it, in a file of the same name
    with ``unpurified_`` before it; ``unpurified_model.npz`` in the run folder where the persistor
    does not tell its file.

    A mistake in the arguments, the data or the architecture stops the job before training.

    Args:
        data: A few hundred clean samples with labels: the path on the server of an ``.npz`` file
            with ``x`` and ``y``. A relative path, here and below, starts from the ``custom`` folder
            of the server's app. Or :class:`TrustedClients`, who have such samples.
        model: The architecture of the arrays: ``"package.module:factory"``, the path of a file that
            holds a whole model, or a model, which NVIDIA FLARE takes into the job as it does the
            recipe's. None takes the one that the persistor holds, as for PyTorch and TensorFlow.
        initial: The path of the initial model, for a job that goes on from an earlier one: ``.npz``
            by name, ``.npy`` for a single array, or PyTorch's weights. None takes the model that
            the first clients are sent.
        layers: ``"auto"`` (the first dense layer), ``"dense"``, ``"conv"``, ``"all"``, or names.
        settings: How the search decides: :class:`flain_core.Settings`, or a dict of its values.
        probes: Paths of further samples by name, measured and reported; with the attacker's target
            as labels of triggered samples, the attack success rate.
        outputs: What the model's scores are: ``"logits"`` or ``"probabilities"``; None recognises
            it.
        report: Where the JSON report goes; a relative path starts from the job's run folder. None
            writes none.
        on_error: What to do if the purification fails after training. The trained model stays as
            the persistor saved it, and the failure is logged. ``"raise"`` then ends the job as
            failed; ``"keep"`` lets it go on with the unpurified model.
        persistor_id: The component that saves the model.

    Raises:
        SettingsError: An argument has the wrong type or is out of range.

    Example:
        >>> purify = Purify(data="/srv/auxiliary.npz", layers=["fc1"], on_error="keep")
        >>> purify.layers, purify.report
        (['fc1'], 'purification.json')
    """

    def __init__(
        self,
        data: str | TrustedClients,
        model: Any = None,
        initial: str | None = None,
        layers: str | list[str] = "auto",
        settings: Settings | Mapping[str, Any] | None = None,
        probes: dict[str, str] | None = None,
        report: str | None = "purification.json",
        on_error: OnError = "raise",
        persistor_id: str = AppConstants.DEFAULT_PERSISTOR_ID,
        outputs: Outputs | None = None,
    ) -> None:
        super().__init__(persistor_id=persistor_id)
        # A job's configuration is made of the attributes that are called like the arguments.
        self.data = data if isinstance(data, TrustedClients) else checked_path(data, "data")
        self.model = model
        self.initial = initial if initial is None else checked_path(initial, "initial")
        if not isinstance(layers, (str, list, tuple)):
            raise SettingsError(f"expected layers to be a name or a list of names; got {layers!r}")
        self.layers = layers if isinstance(layers, str) else list(layers)
        self.settings = plain(settings)
        if not isinstance(probes, (dict, type(None))):
            raise SettingsError(f"expected probes to be a dict of paths by name; got {probes!r}")
        self.probes = {
            name: checked_path(path, f"probe {name!r}") for name, path in (probes or {}).items()
        }
        if outputs is not None:
            one_of(outputs, OUTPUTS, "outputs")
        self.outputs: Outputs | None = outputs
        self.report = report if report is None else checked_path(report, "report")
        if on_error not in ("raise", "keep"):
            raise SettingsError(f'expected on_error to be "raise" or "keep"; got {on_error!r}')
        self.on_error = on_error
        self.persistor_id = persistor_id
        self._training = Training()
        self._job: Job | None = None

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Prepare before training, and remember what training started from."""
        super().handle_event(event_type, fl_ctx)
        if event_type == EventType.START_WORKFLOW and self._job is None:
            self._before_training(fl_ctx, self._prepare)
        elif self._training.follow(event_type, fl_ctx):
            self._before_training(fl_ctx, self._check_initial)

    def run(self) -> None:
        """Purify the trained model."""
        try:
            self._purify()
        except Exception as error:
            # Whatever went wrong, the trained model is not lost.
            self.error(f"the model was NOT purified ({type(error).__name__}): {error}")
            if self.on_error == "raise":
                raise

    def _before_training(self, fl_ctx: FLContext, check: Callable[[FLContext], None]) -> None:
        try:
            check(fl_ctx)
        except Exception as error:
            # Whatever is wrong now would still be wrong after hours of training.
            reason = f"nothing is trained, as the model could not be purified then: {error}"
            self.log_exception(fl_ctx, reason)
            self.system_panic(reason, fl_ctx)

    def _prepare(self, fl_ctx: FLContext) -> None:
        persistor = fl_ctx.get_engine().get_component(self.persistor_id)
        if not isinstance(persistor, LearnablePersistor):
            raise SettingsError(
                f"expected {self.persistor_id!r} to be the job's persistor; it is a "
                f"{type(persistor).__name__}. Without one there is nothing to save with"
            )
        folder = custom_folder(fl_ctx)
        self._job = Job(
            model=architecture(self.model, persistor, folder),
            data=folder / self.data if isinstance(self.data, str) else self.data.asked_by(self),
            probes={name: folder / path for name, path in self.probes.items()} or None,
            layers=self.layers,
            settings=settings_of(self.settings),
            outputs=self.outputs,
        )
        self._job.check()
        if self.report is not None:
            check_writable(run_folder(fl_ctx) / self.report)
        if self.initial is not None:
            self._training.initial = read_initial(folder / self.initial, self._job.model)
        self._check_initial(fl_ctx)

    def _check_initial(self, _: FLContext) -> None:
        # A workflow may load the model before the first one is said to start.
        if self._job is not None and self._training.initial is not None:
            self._job.check_initial(self._training.initial)

    def _purify(self) -> None:
        if self._job is None or self._training.initial is None:
            raise WeightsError(
                "the initial model was never seen: no workflow before this one announced it or "
                "sent it to a client; give its file as Purify(initial=...)"
            )
        if self._training.announced is None:
            raise WeightsError(
                "training saved no model: no round was aggregated, or the workflow before this one "
                f"does not save with {self.persistor_id!r}"
            )
        saved = SavedModel(self.persistor, self.fl_ctx)
        trained = saved.read() or self._training.announced
        weights = trained[ModelLearnableKey.WEIGHTS]
        result = self._job.purify(self._training.initial, weights, self._watch)
        report = None if self.report is None else run_folder(self.fl_ctx) / self.report
        if result.purification.verdict == "not flipped":
            for note in result.purification.notes:
                self.warning(note)
            if report is not None:
                with suppress(OutputError):
                    result.purification.to_json(report)
            raise FlainError(reason_for(result.purification.layers))
        self.info(f"the unpurified model is in {saved.keep(weights)}")
        self._replace(trained, result, report)
        self.info(repr(result.purification))
        self._track(result.purification)
        for note in result.purification.notes:
            self.warning(note)
        for path in saved.others():
            self.warning(
                f"{path} was not purified, only the model that was saved last; do not use it"
            )

    def _watch(self, _: Progress) -> None:
        if self.is_aborted():
            raise FlainError("the job was aborted")

    def _replace(
        self, trained: Mapping[str, Any], result: PurifiedArrays, report: Path | None
    ) -> None:
        meta = trained[ModelLearnableKey.META]
        if report is not None:
            result.purification.to_json(report)
        self._announce(make_model_learnable(result.arrays, meta))
        try:
            self.save_model(FLModel(ParamsType.FULL, result.arrays, meta=meta))
        except Exception:
            self._announce(trained)
            if report is not None:
                report.unlink()
            raise

    def _track(self, purification: Purification) -> None:
        """Send scores, verdict and promise to the job's experiment tracking, if it has one."""
        last = int(self.fl_ctx.get_prop(AppConstants.CURRENT_ROUND, 0))
        for name, number in metrics_of(purification).items():
            dxo = create_analytic_dxo(name, number, AnalyticsDataType.SCALAR, global_step=last)
            send_analytic_dxo(self, dxo, self.fl_ctx)

    def _announce(self, learnable: Any) -> None:
        """Let later workflows find the model where those that train put it."""
        self.fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, learnable, private=True, sticky=True)


def add_purification(recipe: Any, purify: Purify, *, custom_code: bool = True) -> None:
    """Purify what a recipe trains, after its last round.

    Add it before ``add_final_global_evaluation`` or ``add_cross_site_evaluation``; they then
    evaluate the purified model.

    Args:
        recipe: A training recipe with a persistor, such as ``FedAvgRecipe``.
        purify: The workflow.
        custom_code: True lets the job carry a copy of the workflow's module, as jobs do with every
            class that is not NVIDIA FLARE's, which needs a server that accepts custom code. False
            leaves it out, beside the packages that ``job.set_app_packages`` named before; the
            server's ``class_allow_list`` then needs the entry ``"flain_nvflare."``. Either way
            flain is installed on the server.

    Raises:
        SettingsError: The recipe has no such persistor, or evaluates already.
    """
    job = recipe._job  # NVIDIA FLARE's own helpers reach it the same way.
    if getattr(recipe, "_cse_added", False):
        raise SettingsError(
            "the recipe evaluates the model already, before it would be purified; add the "
            "purification first"
        )
    persistor = getattr(job, "comp_ids", {}).get("persistor_id")
    if persistor != purify.persistor_id:
        raise SettingsError(
            f"the workflow saves with the persistor {purify.persistor_id!r}, and the recipe "
            + (f"has {persistor!r}: give Purify(persistor_id=...)" if persistor else "has none")
        )
    if not custom_code:
        named = job.job.app_packages
        job.set_app_packages([*named, *({__package__} - set(named))])
    job.to_server(purify)
