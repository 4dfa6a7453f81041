"""MLflow's request formats, read without pandas: a body to the images and parameters of a request.

Stricter than MLflow's own server: an unknown key beside the table, a key that is there twice, NaN and a ragged table
are errors. What both take means the same.

Source: mlflow.pyfunc.scoring_server (`dataframe_split`, `dataframe_records`, `inputs`, `instances`, `params`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from dermonas.errors import ConfigError
from dermonas.serving.request import IMAGE, Parameters, check_columns, image_bytes
from dermonas.serving.rest.refusal import Refusal

Table = tuple[list[str], list[list[Any]]]
"""Names of columns, and as many columns of equal length."""

_PARAMS = "params"
_LONGEST_NAME = 64  # characters of a column's name; ours are 5


@dataclass(frozen=True)
class Asked:
    """A request as it was read.

    Attributes:
        images: What stands in column `image`, a value a row: base64 text, unchecked.
        parameters: How it wants to be answered.
    """

    images: list[Any]
    parameters: Parameters

    def image(self, row: int) -> bytes:
        """Return the encoded image in a row.

        Raises:
            ImageError: It is no base64 text.
        """
        return image_bytes(self.images[row], row)


def read(body: bytes, most: int) -> Asked:
    """Read a body.

    Args:
        body: JSON in UTF-8.
        most: Rows of a request.

    Raises:
        Refusal: 413 for more rows.
        ConfigError: Anything else that is wrong with it, but for the images.
        ImageError: A row without an image.
    """
    content = _json(body)
    if not isinstance(content, dict):
        raise ConfigError(f"the body must be an object with one of {', '.join(_FORMATS)}")
    given = [key for key in content if key != _PARAMS]
    if len(given) != 1 or given[0] not in _FORMATS:
        raise ConfigError(f"the body must hold one of {', '.join(_FORMATS)}, and {_PARAMS} at most beside it")
    parameters = content.get(_PARAMS)
    if parameters is not None and not isinstance(parameters, dict):
        raise ConfigError(f"{_PARAMS} must be an object")
    columns, values = _FORMATS[given[0]](content[given[0]], most)
    check_columns(columns)
    if not values[0]:
        raise ConfigError("the request has no row")
    for name, column in zip(columns, values, strict=True):
        if name != IMAGE:
            _check_ignored(name, column)
    return Asked(values[columns.index(IMAGE)], Parameters.of(parameters))


def _json(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise ConfigError("the body is no UTF-8") from error
    except RecursionError as error:
        raise ConfigError("the body is nested too deeply") from error
    except ValueError as error:  # JSONDecodeError too, which quotes nothing, but says where a reader need not know
        raise ConfigError("the body is no JSON") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ConfigError("the body names a key twice")
    return found


def _no_number(text: str) -> Any:
    raise ConfigError("the body holds NaN or Infinity, which are no JSON; say null")


def _split(content: Any, most: int) -> Table:
    """Read {"columns": [...], "data": [[...], ...]}; an index is allowed and says nothing."""
    if not isinstance(content, dict) or not {"columns", "data"} <= set(content) <= {"columns", "data", "index"}:
        raise ConfigError("dataframe_split must be an object of columns and data")
    columns, rows = _names(content["columns"]), content["data"]
    _check_rows(rows, most)
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(columns):
            raise ConfigError(f"row {number} must be a list of as many values as there are columns")
    return columns, [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in columns]


def _records(content: Any, most: int) -> Table:
    """Read [{"image": ...}, ...]; a row without a column that others have has null there."""
    _check_rows(content, most)
    for number, row in enumerate(content):
        if not isinstance(row, dict):
            raise ConfigError(f"row {number} must be an object")
    columns = _names(dict.fromkeys(name for row in content for name in row))
    return columns or [IMAGE], [[row.get(name) for row in content] for name in columns or [IMAGE]]


def _inputs(content: Any, most: int) -> Table:
    """Read {"image": [...]} or records."""
    if isinstance(content, list):
        return _records(content, most)
    if not isinstance(content, dict) or not all(isinstance(column, list) for column in content.values()):
        raise ConfigError("inputs must be an object of lists, a column each, or a list of objects, a row each")
    for column in content.values():
        _check_rows(column, most)
    if len({len(column) for column in content.values()}) > 1:
        raise ConfigError("the columns of inputs must be of one length")
    return _names(content), list(content.values())


_FORMATS: dict[str, Callable[[Any, int], Table]] = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "inputs": _inputs,
    "instances": _inputs,
}


def _check_rows(rows: Any, most: int) -> None:
    if not isinstance(rows, list):
        raise ConfigError("the table must be a list of rows")
    if len(rows) > most:
        raise Refusal(413, f"the request has more than {most} rows: send several", "rows")


def _names(columns: Iterable[Any]) -> list[str]:
    names: list[str] = list(columns) if isinstance(columns, list | dict) else [""]
    if not all(isinstance(name, str) and 1 <= len(name) <= _LONGEST_NAME for name in names):
        raise ConfigError("the columns must be a list of names")
    if len(set(names)) != len(names):
        raise ConfigError("a column is there twice")
    return names


def _check_ignored(name: str, column: list[Any]) -> None:
    """Hold the columns that no model reads yet to the contract: age is a number, sex and site are text."""
    for row, value in enumerate(column):
        known = isinstance(value, str) if name != "age" else type(value) in (int, float) and _finite(value)
        if value is not None and not known:
            raise ConfigError(f"row {row}: {name} must be {'a number' if name == 'age' else 'text'} or null")


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False
