"""Who is working on a trial or a study, and whether that process still lives."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import psutil

# A process elsewhere is given up when it has not been heard of for this long: an epoch of the largest
# searches stays well below it.
GRACE_SECONDS = 3600.0
_START_TOLERANCE = 2.0  # seconds; a process's start time is derived from the boot time, which is adjusted


def me() -> dict[str, Any]:
    """Describe this process: host, pid, process start time and now as the heartbeat (seconds since 1970)."""
    process = psutil.Process()
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": process.create_time(),
        "heartbeat": time.time(),
    }


def is_me(owner: dict[str, Any]) -> bool:
    """Tell whether `owner` describes this process."""
    return owner.get("host") == socket.gethostname() and owner.get("pid") == os.getpid() and alive(owner)


def alive(owner: dict[str, Any]) -> bool:
    """Tell whether the described process lives: on this host by pid and start time, elsewhere by heartbeat."""
    if owner.get("host") != socket.gethostname():
        return time.time() - float(owner.get("heartbeat", 0.0)) < GRACE_SECONDS
    try:
        process = psutil.Process(int(owner["pid"]))
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return abs(process.create_time() - float(owner["started"])) < _START_TOLERANCE
    except (psutil.Error, KeyError, ValueError):
        return False
