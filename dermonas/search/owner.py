"""Who is working on a trial or a study, and whether that process still lives."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

# A process elsewhere is given up when it has not been heard of for this long: an epoch of the largest
# searches stays well below it.
GRACE_SECONDS = 3600.0
_START_TOLERANCE = 2.0  # seconds; a process's start time is derived from the boot time, which is adjusted


def me() -> dict[str, Any]:
    """Describe this process: where it is, its and its parent's pid, its start and now (seconds since 1970)."""
    process = psutil.Process()
    return {
        "host": socket.gethostname(),
        "namespace": _namespace(),
        "pid": os.getpid(),
        "parent": os.getppid(),
        "started": process.create_time(),
        "heartbeat": time.time(),
    }


def _namespace() -> str:
    """Name what process ids count in: two containers of one host may share its name, and not its processes."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # not Linux
        return ""


def here(owner: Mapping[str, Any]) -> bool:
    """Tell whether the described process could be seen from this one."""
    return owner.get("host") == socket.gethostname() and owner.get("namespace", _namespace()) == _namespace()


def parent_gone(owner: Mapping[str, Any]) -> bool:
    """Tell whether the process that started the described one is gone: a worker ends then."""
    try:
        return here(owner) and psutil.Process(int(owner["pid"])).ppid() != owner["parent"]
    except (psutil.Error, KeyError, ValueError):
        return True


def is_me(owner: Mapping[str, Any]) -> bool:
    """Tell whether `owner` describes this process."""
    return here(owner) and owner.get("pid") == os.getpid() and alive(owner)


def alive(owner: Mapping[str, Any], grace: float = GRACE_SECONDS) -> bool:
    """Tell whether the described process lives: on this host by pid and start time, elsewhere by heartbeat.

    Args:
        owner: From `me`.
        grace: Seconds without a heartbeat after which a process elsewhere is given up; clocks must agree within it.
    """
    if not here(owner):
        return time.time() - float(owner.get("heartbeat", 0.0)) < grace
    try:
        process = psutil.Process(int(owner["pid"]))
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return abs(process.create_time() - float(owner["started"])) < _START_TOLERANCE
    except (psutil.Error, KeyError, ValueError):
        return False
