"""The keys of a configuration: every field of the nested dataclasses under its dotted name.

A `Key` knows how a value of its field is read from text, checked and written as text again, so that
files, the command line and dictionaries accept and reject exactly the same values.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Iterable, get_args, get_origin, get_type_hints

from semflow.config.schema import Config
from semflow.utils.errors import ConfigError

ALIASES = {"scene": "data.scenes", "data_dir": "data.dir", "seed": "train.seed"}  # short option -> key
SCALARS = (str, int, float, bool)
_LIST_ITEM = re.compile(r'\s*(?P<item>"(?:[^"\\]|\\.)*"|[^,"\[\]]*?)\s*(?P<end>,|$)')
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9](_?[0-9]){0,17}")  # fits 64 bits


@dataclass(frozen=True)
class Key:
    """One dotted key.

    Attributes:
        name: dotted name, e.g. `dynamic_stage.losses.flow_forward`.
        kind: str, int, float or bool; of a list the kind of its items.
        is_list: the value is a tuple of `kind`.
        default: value where nothing is said.
        help: one line.
        choices: allowed values, or None.
        low, high: inclusive range (of the items of a list), or None.
    """

    name: str
    kind: type
    is_list: bool
    default: Any
    help: str
    choices: tuple | None = None
    low: float | None = None
    high: float | None = None

    def parse(self, text: str) -> Any:
        """The checked value that `text` (from a file) stands for; ConfigError names the key."""
        if self.is_list:
            return self.parse_items(split_list(text, self.name))
        return self.check(self._scalar(unquote(text, self.name) if self.kind is str else text))

    def parse_word(self, word: str) -> Any:
        """Like `parse` for a scalar's word of the command line, where the shell has dealt with quotes."""
        return self.check(self._scalar(word))

    def parse_items(self, items: Iterable[str]) -> tuple:
        """The checked tuple of a list's items."""
        return self.check(tuple(self._scalar(item) for item in items))

    def check(self, value: Any) -> Any:
        """`value` if its type, choice and range are right (a list becomes a tuple, 1 becomes 1.0 for floats).

        Raises:
            ConfigError: naming the key, the value and what is allowed.
        """
        if self.is_list:
            if not isinstance(value, (list, tuple)):
                raise self._error(value, f"must be a list of {_NOUNS[self.kind]}s")
            return tuple(self._check_one(item) for item in value)
        return self._check_one(value)

    def allowed(self) -> str:
        """Choices and range in words, or an empty text."""
        parts = [f"one of {', '.join(map(str, self.choices))}"] if self.choices else []
        if self.low is not None:
            parts.append(f"at least {self.low:g}")
        if self.high is not None:
            parts.append(f"at most {self.high:g}")
        return ", ".join(parts)

    def format(self, value: Any) -> str:
        """The text of `value` in a configuration file; `parse` gives the same value back."""
        if self.is_list:
            return "[" + ", ".join(_format_scalar(item, ',[]"#') for item in value) + "]"
        return _format_scalar(value, '"#')

    def _scalar(self, text: str) -> Any:
        text = text if self.kind is str else text.strip()
        if self.kind is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if self.kind is int and _WHOLE_NUMBER.fullmatch(text):
            return int(text)
        if self.kind is float:
            try:
                return float(text)
            except ValueError:
                pass
        if self.kind is str:
            return text
        raise self._error(text, f"must be {_EXPECTED[self.kind]}")

    def _check_one(self, value: Any) -> Any:
        if self.kind is float and type(value) is int:
            value = float(value)
        if type(value) is not self.kind or (self.kind is float and not math.isfinite(value)):
            raise self._error(value, f"must be {_EXPECTED[self.kind]}")
        if self.choices and not self.is_list and value not in self.choices:
            raise self._error(value, f"choose one of {', '.join(map(str, self.choices))}")
        if self.low is not None and value < self.low:
            raise self._error(value, f"must be at least {self.low:g}")
        if self.high is not None and value > self.high:
            raise self._error(value, f"must be at most {self.high:g}")
        return value

    def _error(self, value: Any, remedy: str) -> ConfigError:
        shown = repr(value) if isinstance(value, str) else value
        return ConfigError(f"{self.name} = {shown}: {remedy}")


_NOUNS = {str: "text", int: "whole number", float: "number", bool: "true/false value"}
_EXPECTED = {str: "a text", int: "a whole number, like 2", float: "a finite number, like 0.02", bool: "true or false"}


def all_keys(config: Config) -> dict[str, Key]:
    """Every key by its dotted name, in the order of the schema, with the values of `config` as defaults."""
    return {key.name: key for key in _walk(config, "")}


@cache
def known_keys() -> dict[str, Key]:
    """Every key with its default. Do not edit the dictionary."""
    return all_keys(Config())


def _walk(record: Any, prefix: str) -> Iterable[Key]:
    hints = get_type_hints(type(record))
    for item in fields(record):
        value, name = getattr(record, item.name), prefix + item.name
        if is_dataclass(value):
            yield from _walk(value, name + ".")
            continue
        kind, is_list = hints[item.name], False
        if get_origin(kind) is tuple:
            kind, is_list = get_args(kind)[0], True
        if kind not in SCALARS:
            raise TypeError(f"{name}: the schema supports str, int, float, bool and tuples of them, got {kind}")
        meta = item.metadata
        yield Key(name, kind, is_list, value, meta.get("help", ""), meta.get("choices"), meta.get("low"),
                  meta.get("high"))


def suggestion(name: str, others: tuple[str, ...] = ()) -> str:
    """`; did you mean X?` with what is closest to `name` among the keys and `others`, or an empty text."""
    known = [*known_keys(), *others]
    if name in ALIASES and ALIASES[name] in known:
        return f"; did you mean {ALIASES[name]}?"
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if not close:
        leaves = {full.rsplit(".", 1)[-1]: full for full in reversed(known)}  # the first key of a leaf's name wins
        close = [leaves[leaf] for leaf in difflib.get_close_matches(name.rsplit(".", 1)[-1], leaves, n=1, cutoff=0.7)]
    return f"; did you mean {close[0]}?" if close else ""


def split_list(text: str, name: str) -> list[str]:
    """The items of `[a, b]` or `a, b`; items may be quoted like JSON texts.

    Raises:
        ConfigError: naming the key `name`, where brackets or quotes do not close or an item is empty.
    """
    body = text.strip()
    if body.startswith("[") and body.endswith("]"):
        body = body[1:-1].strip()
    if not body:
        return []
    items, position, ended = [], 0, False
    while not ended:
        match = _LIST_ITEM.match(body, position)
        if match is None or not match["item"]:
            raise ConfigError(f"{name} = {text!r}: must be a list like [a, b]; quote items with commas or brackets")
        items.append(unquote(match["item"], name))
        position, ended = match.end(), match["end"] == ""
    return items


def unquote(text: str, name: str) -> str:
    """`text` without its JSON quotes, if it has them; ConfigError naming the key if they do not close."""
    text = text.strip()
    if not text.startswith('"'):
        return text
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        raise ConfigError(f'{name} = {text}: broken quotes; write "text" with \\" and \\\\ inside') from None
    return value


def _format_scalar(value: Any, forbidden: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return repr(value)
    plain = value.isprintable() and value == value.strip() and value and not set(value) & set(forbidden)
    return value if plain else json.dumps(value)
