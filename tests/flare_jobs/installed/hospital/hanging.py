"""A trusted client that answers once and then no more."""

import os
import time
from pathlib import Path

from flain_nvflare import Answering


class Hanging(Answering):
    def __init__(self, data, model, note):
        super().__init__(data=data, model=model)
        self.note, self.asked = note, 0

    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        self.asked += 1
        if self.asked > 1:
            # Whole or not at all, as another process waits for it.
            written = Path(f"{self.note}.part")
            written.write_text(str(os.getpid()))
            written.rename(self.note)
            time.sleep(600)
        return super().execute(task_name, shareable, fl_ctx, abort_signal)
