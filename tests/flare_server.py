"""An NVIDIA FLARE server without its network: real workflows, persistors and events, no clients."""

import pickle
from pathlib import Path

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContextManager
from nvflare.apis.impl.wf_comm_server import WFCommServer
from nvflare.apis.signal import Signal
from nvflare.apis.utils.event import fire_event_to_components
from nvflare.apis.workspace import Workspace
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from nvflare.app_common.workflows.base_fedavg import BaseFedAvg

JOB = "job"


class Server:
    """Runs workflows one after another, as NVIDIA FLARE's server runner does."""

    def __init__(self, root, persistor, *workflows):
        for folder in ("startup", "local", f"{JOB}/app_server/custom"):
            (root / folder).mkdir(parents=True)
        self.workspace = Workspace(str(root), "server")
        self.folder = Path(self.workspace.get_app_dir(JOB))
        self.run_folder = Path(self.workspace.get_run_dir(JOB))
        self.custom = Path(self.workspace.get_app_custom_dir(JOB))
        self.persistor, self.workflows = persistor, workflows
        self.widgets = ()
        self.signal, self.panics = Signal(), []
        self.contexts = FLContextManager(self, "server", JOB)

    def get_workspace(self):
        return self.workspace

    def get_component(self, name):
        return {"persistor": self.persistor, "number": 5}.get(name)

    def get_clients(self):
        return []

    def new_context(self):
        context = self.contexts.new_context()
        context.set_prop(FLContextKey.APP_ROOT, str(self.folder), private=True, sticky=True)
        return context

    def fire_event(self, event, context):
        if event == EventType.FATAL_SYSTEM_ERROR:
            self.panics.append(context.get_prop(FLContextKey.EVENT_DATA))
            self.signal.trigger(True)
        components = [
            each for each in (*self.workflows, *self.widgets, self.persistor) if each is not None
        ]
        fire_event_to_components(event, components, context)

    def run(self):
        self.fire_event(EventType.START_RUN, self.new_context())
        for workflow in self.workflows:
            with self.new_context() as context:
                workflow.set_communicator(WFCommServer())
                workflow.initialize(context)
                self.fire_event(EventType.START_WORKFLOW, context)
            with self.new_context() as context:
                workflow.control_flow(self.signal, context)
            if self.signal.triggered:
                break
        self.fire_event(EventType.END_RUN, self.new_context())
        return self


class Rounds(BaseFedAvg):
    """Aggregates what it is given, one set of arrays a round, with FedAvg's own methods."""

    def __init__(self, *rounds, kind=ParamsType.FULL, initial=None):
        super().__init__()
        self.rounds, self.kind, self.initial = rounds, kind, initial
        self.sent = []

    def run(self):
        if self.initial is None:
            model = self.load_model()
        else:
            model = FLModel(ParamsType.FULL, self.initial)
        for arrays in self.rounds:
            shareable = FLModelUtils.to_shareable(model)
            key = AppConstants.TRAIN_SHAREABLE
            self.fire_event_with_data(AppEventType.BEFORE_TRAIN_TASK, self.fl_ctx, key, shareable)
            self.sent.append(pickle.dumps(shareable))
            if self.abort_signal.triggered:
                return
            model = self.update_model(model, FLModel(self.kind, arrays))
            self.save_model(model)


class LastLook(BaseFedAvg):
    """A workflow that comes after the purification, as an evaluation does."""

    ran = False

    def run(self):
        self.ran = True
        self.seen = self.fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)["weights"]
