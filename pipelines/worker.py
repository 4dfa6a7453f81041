"""One worker process of a search, started by `pipelines.workers`: no entry point of its own."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from dermonas.errors import DermonasError
from dermonas.search.config import SearchConfig
from dermonas.tracking.runs import Run, experiment_id
from dermonas.tracking.store import connected
from pipelines import search
from pipelines.command import INTERRUPTED, quiet
from pipelines.crew import Crew
from pipelines.recipe import parse, read_recipe
from pipelines.search_task import study_of, task_of

_GOODBYE = 30.0  # seconds after which a worker ends that does not come to an interrupt


def _end_with_parent() -> None:
    """Interrupt this process when its standard input closes: the process that started it is gone."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GOODBYE)
    os._exit(INTERRUPTED)


def main() -> int:
    """Work on the study that the order on standard input names; return the exit code."""
    quiet()
    try:
        line = sys.stdin.readline()
        if not line:  # the process that started this one is gone already
            return INTERRUPTED
        order = json.loads(line)
        threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
        config: SearchConfig = parse(SearchConfig, order["config"], [], "search")
        task = task_of(config, read_recipe(Path(order["recipe"])))
        client = connected()
        with study_of(task, inside=True) as study:
            nowhere = Run(client, "", experiment_id(client, f"dermonas/{task.manifest.dataset}"))
            crew = Crew(nowhere, study, task, inside=True)
            search.search_of(task, study, crew, shared=True).run()
    except DermonasError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}), flush=True)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
