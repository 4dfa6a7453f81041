"""What all entry points share, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

# The first interrupt falls into a callback whose exceptions Python drops.
DROPPED = """
import signal, sys, time, weakref
from pipelines.command import command

class Thing:
    pass

def work(words):
    thing = Thing()
    kept = weakref.ref(thing, lambda gone: signal.raise_signal(signal.{name}))
    del thing
    time.sleep(60)

sys.exit(command("search", work))
"""


def test_an_interrupt_that_python_drops_comes_again():
    for name in ("SIGTERM", "SIGINT"):
        done = subprocess.run([sys.executable, "-c", DROPPED.format(name=name)], capture_output=True, text=True)
        assert done.returncode == 130, done.stderr
        assert done.stderr == "interrupted: nothing finished is lost; the same command goes on\n"


def test_other_dropped_errors_are_told():
    script = DROPPED.replace("signal.raise_signal(signal.{name})", "1 / 0").replace("60", "0")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0
    assert "ZeroDivisionError" in done.stderr
