"""The lock around what one process alone may write."""

from __future__ import annotations

import logging
import threading

import pytest
from filelock import FileLock

from dermonas.errors import ConfigError, StorageError
from pipelines.locks import alone

DOING = "trains the same into here"
HELD = r"^another process trains the same into here: wait for it$"


def test_one_process_at_a_time_and_the_next_one_after_it(tmp_path):
    lock = tmp_path / "new" / "folder" / ".a.lock"
    with alone(lock, DOING):
        with pytest.raises(ConfigError, match=HELD), alone(lock, DOING):
            pytest.fail("two hold it")
        with alone(lock.with_name(".b.lock"), DOING):
            pass
    with alone(lock, DOING):
        pass


def test_who_waits_says_so_and_goes_on(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    held, told = threading.Event(), threading.Event()
    released: list[str] = []

    class Teller(logging.Handler):
        def emit(self, record):
            told.set()

    def other():
        with FileLock(tmp_path / ".lock"):
            held.set()
            told.wait(30)
            released.append("by the other")

    log, teller, thread = logging.getLogger("pipelines.locks"), Teller(), threading.Thread(target=other)
    log.addHandler(teller)
    thread.start()
    try:
        assert held.wait(30)
        with alone(tmp_path / ".lock", DOING, wait=True):
            assert released == ["by the other"]
    finally:
        log.removeHandler(teller)
        thread.join()
    assert caplog.messages == ["another process trains the same into here: waiting for it"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    says = rf"^cannot write to {tmp_path}/file: .+; choose another --out$"
    with pytest.raises(StorageError, match=says), alone(tmp_path / "file" / ".lock", DOING):
        pytest.fail("there is no lock")


@pytest.mark.parametrize("error", [OSError("the body's"), TimeoutError("the body's"), KeyboardInterrupt()])
def test_what_the_body_raises_is_left_and_the_lock_given_back(error, tmp_path):
    with pytest.raises(type(error)) as caught, alone(tmp_path / ".lock", DOING):
        raise error
    assert caught.value is error
    with alone(tmp_path / ".lock", DOING):
        pass
