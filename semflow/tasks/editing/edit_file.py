"""Edits as data: a list of small records, read from and written to a JSON file that can be replayed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semflow.utils.errors import ConfigError
from semflow.utils.files import write_json

VERSION = 1
NO_DEFAULT = object()


@dataclass(frozen=True)
class Value:
    """A value of an edit: how it is checked, what it must be, and its default."""

    read: Callable[[Any], Any]
    must_be: str
    default: Any = NO_DEFAULT


def number(low: float = -math.inf, high: float = math.inf) -> Callable[[Any], float]:
    """A reader of finite numbers in [low, high]; raises ValueError for anything else."""

    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError
        if not low <= value <= high:
            raise ValueError
        return float(value)

    return read


def vector(value: Any, read: Callable[[Any], float] = number()) -> tuple[float, float, float]:
    """Three numbers; raises ValueError for anything else."""
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        raise ValueError
    return tuple(read(item) for item in value)


def name(value: Any) -> str:
    """A word of letters, digits, '_' and '-'; raises ValueError for anything else."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z][\w-]*", value):
        raise ValueError
    return value


def text(value: Any) -> str:
    """A string that is not empty, or ValueError."""
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


THREE = Value(vector, "three numbers")
OPERATIONS: dict[str, dict[str, Value]] = {
    "remove": {},
    "keep": {},
    "recolour": {"colour": Value(lambda value: vector(value, number(0, 1)), "three numbers between 0 and 1"),
                 "strength": Value(number(0, 1), "a number between 0 and 1", 1.0)},
    "opacity": {"value": Value(number(0, 1), "a number between 0 and 1")},
    "move": {"by": THREE},
    "rotate": {"degrees": THREE},
    "scale": {"factor": Value(number(1e-3, 1e3), "a number between 0.001 and 1000")},
    "duplicate": {"as": Value(name, "a name of letters, digits, '_' and '-'"),
                  "by": Value(vector, "three numbers", (0.0, 0.0, 0.0))},
    "delay": {"frames": Value(number(), "a number of frames")},
    "speed": {"factor": Value(number(), "a number"), "from": Value(number(0), "a frame, 0 or later", None)},
    "freeze": {"frame": Value(number(0), "a frame, 0 or later")},
    "background": {"scene": Value(text, "the name of a scene"), "run": Value(text, "a run folder", None)},
}
WITHOUT_TARGET = ("background",)


@dataclass(frozen=True)
class Edit:
    """One edit.

    Attributes:
        do: one of OPERATIONS. what: targets, see `selection`. values: of the operation, all of them.
    """

    do: str
    what: tuple[str, ...]
    values: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The record of the file."""
        values = {key: list(value) if isinstance(value, tuple) else value
                  for key, value in self.values.items() if value is not None}
        return {"do": self.do} | ({"what": list(self.what)} if self.what else {}) | values


def read_edits(path: Path) -> tuple[Edit, ...]:
    """The edits of a file.

    Raises:
        ConfigError: the file cannot be read, or an edit is wrong; names the file, the edit and the key.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON ({error}); write it as docs/editing.md shows") from error
    if not isinstance(content, dict) or content.get("version") != VERSION or not isinstance(content.get("edits"), list):
        raise ConfigError(f'{path}: not an edit file; it must hold {{"version": {VERSION}, "edits": […]}}')
    return tuple(checked_edit(item, f"{path}: edits[{i}]") for i, item in enumerate(content["edits"]))


def write_edits(path: Path, edits: Sequence[Edit]) -> None:
    """Write edits so that `read_edits` gives them back."""
    write_json(path, {"version": VERSION, "edits": [edit.to_json() for edit in edits]})


def checked_edit(item: Any, where: str) -> Edit:
    """The edit of a record as the file holds it.

    Args:
        item: the record. where: what an error begins with.

    Raises:
        ConfigError: an unknown operation or key, a missing or a wrong value.
    """
    do = item.get("do") if isinstance(item, dict) else None
    if not isinstance(do, str) or do not in OPERATIONS:
        raise ConfigError(f"{where}.do = {do!r}: choose one of {', '.join(OPERATIONS)}")
    known = OPERATIONS[do]
    what = item.get("what", [])
    what = [what] if isinstance(what, (str, int)) and not isinstance(what, bool) else what
    targeted = do not in WITHOUT_TARGET
    if targeted and not (isinstance(what, list) and what and all(isinstance(t, (str, int)) and t != "" for t in what)):
        raise ConfigError(f"{where}.what = {what!r}: name what to {do}, e.g. [\"balloon\"] or [\"ball#1\"]")
    unknown = [key for key in item if key not in ("do", *known) and not (targeted and key == "what")]
    if unknown:
        raise ConfigError(f"{where}.{unknown[0]}: {do} has no such key; it takes {', '.join(known) or 'what alone'}")
    values = {}
    for key, value in known.items():
        if key not in item and value.default is NO_DEFAULT:
            raise ConfigError(f"{where}.{key}: is missing; {do} needs {value.must_be}")
        try:
            values[key] = value.read(item[key]) if key in item else value.default
        except ValueError as error:
            raise ConfigError(f"{where}.{key} = {item[key]!r}: must be {value.must_be}") from error
    return Edit(do, tuple(str(target) for target in what) if targeted else (), values)
