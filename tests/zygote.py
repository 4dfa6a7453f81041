"""Starts entry points as real processes without paying their imports each time: imports once, then forks.

Reads one JSON object a line on standard input and answers one on standard output: {"start": {...}} gives
{"pid": n}; {"wait": pid, "seconds": s} gives {"code": exit code, negative for a signal} or {"code": null}.
No tensor is touched before the fork, so a child is as fresh as a process that imported everything itself.
"""

import contextlib
import importlib
import json
import os
import sqlite3
import sys
import time
import traceback

import sqlalchemy

MODULES = (
    "sqlalchemy.event",
    "sqlalchemy.orm",
    "pipelines.search",
    "pipelines.prepare",
    "pipelines.describe",
    "pipelines.pipeline",  # which imports every step
    "pipelines.app",  # and pipelines.serve with it
    "pipelines.robustness",
    "albumentations",  # what these import late
    "dermonas.nn.baselines",
    "dermonas.explain.gradcam",
    "huggingface_hub",
    "lightning.pytorch.strategies",
    "torch._dynamo",
    "torch.export.pt2_archive._package",
    "torch._functorch.aot_autograd",
    "optuna.importance._fanova._evaluator",
    "optuna.visualization",
    "plotly.io",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "mlflow.store.tracking.sqlalchemy_store",
    "alembic.command",
    "alembic.context",
)


def child(order):
    """Become `python -m <module> <arguments>` in the ordered folder, after the ordered patch; never returns."""
    os.setsid()
    os.chdir(order["folder"])
    os.environ.update(order["environment"])
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code = 70
    try:
        exec(order["patch"], {"__name__": "patch"})  # the tests' own text  # noqa: S102
        if order["module"]:
            module = importlib.import_module(order["module"])
            sys.modules["__main__"].__spec__ = module.__spec__  # what Lightning starts further processes by
            sys.argv = [order["module"], *order["arguments"]]
            code = module.command(order["module"].split(".")[1], module.main)
        else:
            code = 0  # the patch was all
    except BaseException:
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


def wait(pid, seconds):
    """Return the exit code, None after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            return None
        time.sleep(0.01)


def trust_the_disk(connection, _):
    if isinstance(connection, sqlite3.Connection):
        connection.execute("pragma synchronous=off")


def keep_head_version():
    """Have Optuna read the newest version of its tables once: it runs twenty migration scripts to learn it."""
    from optuna.storages._rdb.storage import RDBStorage, _VersionManager

    storage = RDBStorage("sqlite:///:memory:")
    head = storage._version_manager.get_head_version()
    storage.engine.dispose()
    _VersionManager.get_head_version = lambda self: head


def main():
    """Serve until standard input ends."""
    for name in MODULES:
        importlib.import_module(name)
    # Only a power failure, which no test brings about, loses what SQLite did not flush.
    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "connect", trust_the_disk)
    sqlalchemy.orm.configure_mappers()
    keep_head_version()
    for line in sys.stdin:
        order = json.loads(line)
        if "start" in order:
            pid = os.fork()
            if not pid:
                child(order["start"])
            answer = {"pid": pid}
        else:
            answer = {"code": wait(order["wait"], order["seconds"])}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
