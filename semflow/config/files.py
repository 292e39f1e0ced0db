"""Configuration files: `key = value` lines, comments, and `base = other.txt` chains.

ConfigArgParse does not follow a base inside a file and lets the second of two equal keys win, so the
files are read and checked here and handed over as a resolved list.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import configargparse

from semflow.config.keys import known_keys, suggestion, unquote
from semflow.utils.errors import ConfigError

BASE = "base"
_VALUE = re.compile(r'(?P<value>(?:"(?:[^"\\]|\\.)*"|(?<!\s)#|[^#"])*)(?:#.*)?')  # a comment's # follows a space


@dataclass(frozen=True)
class ConfigFile:
    """One file: where it lies, its checked values by key, and the file it builds on."""

    path: Path
    values: dict[str, Any] = field(default_factory=dict)
    base: Path | None = None


def read_config_file(path: Path) -> ConfigFile:
    """Read and check one file.

    Raises:
        ConfigError: where the file is missing or unreadable, or a line is not `key = value`, has an unknown
            or repeated key or a wrong value; the message names file, line and remedy.
    """
    return _parse(_read_text(path), path)


def base_chain(path: Path) -> list[Path]:
    """`path` and the files it builds on, the most basic first, `path` last; every file is checked.

    Raises:
        ConfigError: as `read_config_file`, or where the bases form a cycle.
    """
    chain, seen, current = [], [], path.expanduser()
    asked_by = ""
    while current is not None:
        resolved = current.resolve()
        if resolved in seen:
            raise ConfigError(f"{chain[-1]}: its base {current} builds on {chain[-1].name} again; break the cycle")
        if not os.path.exists(current):
            raise ConfigError(f"{current}: no such configuration file{asked_by}; check the path")
        seen.append(resolved)
        chain.append(current)
        asked_by = f" (base of {current})"
        current = read_config_file(current).base
    return chain[::-1]


class StrictFileParser(configargparse.ConfigFileParser):
    """Reads the checked files for ConfigArgParse: scalars as plain text, lists as JSON."""

    def get_syntax_description(self) -> str:
        return "Config files hold lines `key = value`, lists like [a, b], # comments, and one `base = other.txt`."

    def parse(self, stream) -> dict[str, str]:
        values = _parse(stream.read(), Path(stream.name)).values
        return {name: _as_word(value) for name, value in values.items()}


def _as_word(value: Any) -> str:
    if isinstance(value, tuple):
        return json.dumps([item if isinstance(item, str) else str(item) for item in value])
    return value if isinstance(value, str) else str(value)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a UTF-8 text file; is it a configuration?") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from None


def _parse(text: str, path: Path) -> ConfigFile:
    values, base, seen = {}, None, {}
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        try:
            name, value_text = _split(line)
            if name in seen:
                raise ConfigError(f"{name} is given twice (first in line {seen[name]}); keep one")
            seen[name] = number
            if name == BASE:
                base = _base_path(value_text, path)
            else:
                values[name] = _known(name).parse(value_text)
        except ConfigError as error:
            raise ConfigError(f"{path}, line {number}: {error}") from None
    return ConfigFile(path, values, base)


def _split(line: str) -> tuple[str, str]:
    name, equals, rest = line.partition("=")
    match = _VALUE.fullmatch(rest)
    if not equals or not name.strip() or " " in name.strip():
        raise ConfigError(f"{line!r} is not a setting; write key = value")
    if match is None:
        raise ConfigError(f"{name.strip()} = {rest.strip()}: a quote does not close")
    return name.strip(), match["value"].strip()


def _base_path(text: str, path: Path) -> Path:
    name = unquote(text, BASE)
    if not name:
        raise ConfigError("base is empty; name a file or remove the line")
    return path.parent / Path(name).expanduser()


def _known(name: str):
    key = known_keys().get(name)
    if key is None:
        raise ConfigError(f"unknown key {name}{suggestion(name) or '; see semflow train --help'}")
    return key
