"""Logs as JSON lines: what happened, never what was sent."""

from __future__ import annotations

import json
import logging
import traceback
from datetime import UTC, datetime
from typing import Any

LOGGER = "dermonas.serving.rest"
_FIELDS = "fields"


class JsonLines(logging.Formatter):
    """One JSON object a record: time, level, logger, event, and the record's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = places(record.exc_info[1])
        return json.dumps(line, default=str)


def event(level: int, name: str, **fields: Any) -> None:
    """Log an event of the server."""
    logging.getLogger(LOGGER).log(level, name, extra={_FIELDS: fields})


def places(error: BaseException) -> list[str]:
    """Return an error's type and where it was raised, without its message, which may quote a request."""
    frames = traceback.extract_tb(error.__traceback__)
    return [type(error).__name__, *(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames)]
