"""Follows a job's training by its events."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.fl_model import ParamsType
from nvflare.app_common.abstract.model import ModelLearnableKey, make_model_learnable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.app_common.utils.fl_model_utils import FLModelUtils


class Training:
    """The model that training started from, and the one it ended with.

    Attributes:
        initial: Parameters by name, copied before training changed them; None until they are seen.
        announced: The learnable, weights and meta, that the workflow last said it had saved; None
            until it saves one.
    """

    def __init__(self) -> None:
        self.initial: Mapping[str, Any] | None = None
        self.announced: Any = None

    def start_from(self, weights: Mapping[str, Any] | None) -> bool:
        """Take the initial model, unless there is one; return whether it was taken."""
        if self.initial is not None or not weights:
            return False
        self.initial = deepcopy(dict(weights))
        return True

    def follow(self, event_type: str, fl_ctx: FLContext) -> bool:
        """Learn from an event; return whether it brought the initial model."""
        if event_type == AppEventType.INITIAL_MODEL_LOADED:
            return self.start_from(_global_model(fl_ctx).get(ModelLearnableKey.WEIGHTS))
        if event_type == AppEventType.BEFORE_TRAIN_TASK:
            # A workflow that was given its model as a dict never says that it loaded one.
            return self.initial is None and self.start_from(_sent(fl_ctx))
        if event_type == AppEventType.AFTER_LEARNABLE_PERSIST:
            model = _global_model(fl_ctx)
            # Later rounds may put other arrays into the same dict.
            weights = dict(model.get(ModelLearnableKey.WEIGHTS) or {})
            self.announced = make_model_learnable(weights, model.get(ModelLearnableKey.META))
        return False


def _global_model(fl_ctx: FLContext) -> Mapping[str, Any]:
    return fl_ctx.get_prop(AppConstants.GLOBAL_MODEL) or {}


def _sent(fl_ctx: FLContext) -> Mapping[str, Any] | None:
    shareable = fl_ctx.get_prop(AppConstants.TRAIN_SHAREABLE)
    if shareable is None:
        return None
    model = FLModelUtils.from_shareable(shareable)
    weights: Mapping[str, Any] | None = model.params
    return weights if model.params_type == ParamsType.FULL else None
