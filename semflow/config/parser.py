"""From dataclasses to ConfigArgParse and back: command line, files, text and dictionaries.

Precedence: command line, then the file of --config, then its bases, then the defaults of the schema.
Everything is derived from the fields of `Config`; every wrong input is a ConfigError of one line.
"""

from __future__ import annotations

import argparse
import glob
import re
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, NoReturn, Sequence

import configargparse

from semflow.config.files import StrictFileParser, base_chain, read_config_file
from semflow.config.keys import ALIASES, Key, all_keys, known_keys, split_list, suggestion
from semflow.config.schema import Config
from semflow.utils.errors import ConfigError

STEPS_HELP = ("total length: N steps of the dynamic stage and round(3N/4) of the static stage, whose decay_steps are "
              "scaled along; a stage that the configuration leaves out (steps = 0) stays out; dynamic_stage.steps, "
              "static_stage.steps and their decay_steps on the command line override it")
_METAVARS = {str: "TEXT", int: "N", float: "X"}
_STEP_QUARTERS = {"dynamic_stage": 4, "static_stage": 3}  # stage -> its length in quarters of --steps


class StrictParser(configargparse.ArgumentParser):
    """An ArgumentParser whose every complaint is a ConfigError."""

    def error(self, message: str) -> NoReturn:
        message = re.sub(r"^argument (\S+): ", r"\1: ", message)
        if "ignored explicit argument" in message:
            message += "; a switch takes no value: write --KEY or --no-KEY"
        raise ConfigError(message)


def _refuse_second(namespace: argparse.Namespace, dest: str, option: str) -> None:
    if hasattr(namespace, dest):
        raise ConfigError(f"{option} is given twice on the command line (as {dest}); keep one")


class StoreOnce(argparse.Action):
    """Stores a scalar; a second one on the command line is an error."""

    def __call__(self, parser, namespace, values, option_string=None):
        _refuse_second(namespace, self.dest, option_string)
        setattr(namespace, self.dest, values)


class StoreListOnce(StoreOnce):
    """Stores a list given as words, as `a,b` or as `[a, b]`."""

    def __call__(self, parser, namespace, values, option_string=None):
        if values and values[0].startswith("["):
            values = [" ".join(values)]
        items = [item for word in values for item in split_list(word, self.dest)]
        super().__call__(parser, namespace, known_keys()[self.dest].parse_items(items), option_string)


class SwitchOnce(argparse.BooleanOptionalAction):
    """`--key` and `--no-key`; a second one on the command line is an error."""

    def __call__(self, parser, namespace, values, option_string=None):
        _refuse_second(namespace, self.dest, option_string)
        super().__call__(parser, namespace, values, option_string)


def build_parser(config_files: Sequence[Path] = ()) -> StrictParser:
    """The parser of every key, grouped by record, with `config_files` (the most basic first) as its files.

    Keys that nobody sets are absent from the namespace, so the schema alone holds the defaults.
    """
    parser = StrictParser(
        prog="semflow train",
        usage="semflow train [--config FILE] [--scene NAME ...] [--KEY VALUE ...]",
        description="Train a semantic field. Every key below can stand in a --config file as `key = value` "
        "(switches as `key = true`) and on the command line, which wins.",
        formatter_class=partial(argparse.HelpFormatter, max_help_position=32, width=110),
        config_file_parser_class=StrictFileParser,
        # ConfigArgParse expands patterns in these names, so brackets in a path must be escaped
        default_config_files=[glob.escape(str(path.absolute())) for path in config_files],
        config_file_open_func=partial(open, encoding="utf-8-sig"),
        add_config_file_help=False,
        add_env_var_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", action=StoreOnce, default=argparse.SUPPRESS,
                        help="configuration file; it may build on another by a line `base = other.txt`")
    parser.add_argument("--steps", metavar="N", action=StoreOnce, default=argparse.SUPPRESS,
                        type=Key("steps", int, False, None, STEPS_HELP, low=0).parse_word, help=STEPS_HELP)
    _add_record(parser, Config(), "")
    return parser


def _add_record(parser: StrictParser, record: Any, prefix: str) -> None:
    group = parser.add_argument_group(prefix.rstrip(".") or "run", _first_line(record))
    for item in fields(record):
        value, name = getattr(record, item.name), prefix + item.name
        if is_dataclass(value):
            _add_record(parser, value, name + ".")
        else:
            _add_key(group, known_keys()[name])


def _first_line(record: Any) -> str:
    return (type(record).__doc__ or "").strip().split("\n")[0].replace("%", "%%")


def _add_key(group: argparse._ArgumentGroup, key: Key) -> None:
    options = [f"--{key.name}"] + [f"--{short}" for short, name in ALIASES.items() if name == key.name]
    limits = "" if key.choices else key.allowed()  # choices already stand beside the option
    notes = "; ".join(filter(None, [limits, f"default {key.format(key.default)}"]))
    common = {"dest": key.name, "help": f"{key.help} [{notes}]".replace("%", "%%")}
    if key.kind is bool and not key.is_list:
        action = group.add_argument(options[0], action=SwitchOnce, **common)
    elif key.is_list:
        action = group.add_argument(*options, action=StoreListOnce, nargs="*", metavar=_METAVARS[key.kind], **common)
    else:
        metavar = "{" + ",".join(map(str, key.choices)) + "}" if key.choices else _METAVARS[key.kind]
        action = group.add_argument(*options, action=StoreOnce, type=key.parse_word, metavar=metavar, **common)
    action.default = argparse.SUPPRESS  # set late: some Pythons append the default to a switch's help


def parse_config(argv: Sequence[str]) -> Config:
    """The configuration of a command line.

    Raises:
        ConfigError: for anything unknown, repeated or out of range, naming key or file and remedy.
    """
    return parse_arguments(argv)[0]


def parse_arguments(
    argv: Sequence[str], extend: Callable[[StrictParser], None] | None = None
) -> tuple[Config, argparse.Namespace]:
    """Like `parse_config`, with further options added to the parser by `extend` and returned beside it."""
    argv = list(argv)
    parser = build_parser(_config_files(argv))
    if extend is not None:
        extend(parser)
    namespace, rest = parser.parse_known_args(argv)
    if rest:
        raise _unknown_argument(rest[0])
    given = vars(namespace)
    values = {name: given.pop(name) for name in known_keys() if name in given}
    if "steps" in given:
        values |= _resized(values, given.pop("steps"), {word.split("=", 1)[0] for word in argv})
    return _build(Config(), values), namespace


def _resized(values: dict[str, Any], steps: int, words: set[str]) -> dict[str, int]:
    """Lengths of the stages for `--steps`, and their decay in the ratio of before; neither stages left out nor what `words` set."""
    found = {}
    for stage, quarters in _STEP_QUARTERS.items():
        length, decay = f"{stage}.steps", f"{stage}.decay_steps"
        before, falling = (values.get(name, known_keys()[name].default) for name in (length, decay))
        if f"--{length}" in words or not before:
            continue
        found[length] = round(steps * quarters / 4)
        if f"--{decay}" not in words:
            found[decay] = max(1, round(falling * found[length] / before))
    return found


def _config_files(argv: list[str]) -> list[Path]:
    if "-h" in argv or "--help" in argv:
        return []
    scan = StrictParser(add_help=False, allow_abbrev=False)
    scan.add_argument("--config", action="append", default=[])
    named = scan.parse_known_args(argv)[0].config
    if len(named) > 1:
        raise ConfigError(f"--config is given twice ({named[0]}, {named[1]}); put `base = {named[0]}` into the other")
    return base_chain(Path(named[0])) if named else []


def _unknown_argument(word: str) -> ConfigError:
    if not word.startswith("-"):
        return ConfigError(f"unexpected word {word!r} on the command line; a setting is --KEY VALUE, "
                           "a switch --KEY or --no-KEY")
    name = word.split("=", 1)[0].lstrip("-")
    hint = suggestion(name, ("config", "steps", "resume", "overwrite")).replace("did you mean ", "did you mean --")
    return ConfigError(f"unknown option {word.split('=', 1)[0]}{hint or '; see semflow train --help'}")


def _build(template: Any, values: dict[str, Any], prefix: str = "") -> Any:
    changes = {}
    for item in fields(template):
        name, current = prefix + item.name, getattr(template, item.name)
        if is_dataclass(current):
            changes[item.name] = _build(current, values, name + ".")
        elif name in values:
            changes[item.name] = values[name]
    try:
        return replace(template, **changes)
    except ConfigError as error:  # a check of the record itself, which knows only its own field names
        raise ConfigError(f"{prefix}{error}") from None


def config_from_file(path: str | Path) -> Config:
    """The configuration of a file and its bases; ConfigError names file, line and remedy."""
    return parse_config([f"--config={path}"])


def stacked_config(path: Path, overlays: Sequence[Path], values: dict[str, Any]) -> Config:
    """A file with its bases, then the own lines of further files (their bases are not followed), then values.

    Args:
        path: the configuration file. overlays: files laid over it, the last one wins. values: key -> value.

    Raises:
        ConfigError: naming file, line and remedy.
    """
    chain = [read_config_file(file) for file in [*base_chain(path), *overlays]]
    merged = {name: value for file in chain for name, value in file.values.items()}
    return _build(Config(), merged | {name: known_keys()[name].check(value) for name, value in values.items()})


def with_settings(config: Config, settings: Sequence[str], group: str = "") -> Config:
    """The configuration with `KEY=VALUE` settings, like `render.samples=96`, put in place of its own.

    Args:
        group: the settings must be keys of it; empty: of any group.

    Raises:
        ConfigError: for another form, a key that the group does not hold, or a wrong value.
    """
    values = {}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise ConfigError(f"set = {setting!r}: write it as KEY=VALUE, e.g. {group or 'render'}.samples=96")
        if group and not name.startswith(f"{group}."):
            raise ConfigError(f"set = {setting!r}: only keys of {group} can be set here{suggestion(name)}")
        if name not in known_keys():
            raise ConfigError(f"set = {setting!r}: there is no such key{suggestion(name)}")
        values[name] = known_keys()[name].parse(text)
    return _build(config, values)


def config_to_text(config: Config) -> str:
    """A commented file of every key that `config_from_file` reads back to exactly `config`."""
    lines, group = ["# Resolved configuration of a semflow run; run it again by --config."], None
    for key in all_keys(config).values():
        head = key.name.rpartition(".")[0]
        if head != group:
            lines += ["", f"# ---- {head or 'run'} ----"]
            group = head
        notes = f" [{key.allowed()}]" if key.allowed() else ""
        lines += [f"# {key.help}{notes}", f"{key.name} = {key.format(key.default)}"]
    return "\n".join(lines) + "\n"


def config_to_dict(config: Config) -> dict[str, Any]:
    """Nested dictionaries, lists and scalars that JSON can hold."""
    result: dict[str, Any] = {}
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            value = config_to_dict(value)
        result[item.name] = list(value) if isinstance(value, tuple) else value
    return result


def config_from_dict(values: dict[str, Any]) -> Config:
    """The configuration of nested dictionaries; keys that are absent have their defaults, as in a file.

    Raises:
        ConfigError: for an unknown key or a value of wrong type or range.
    """
    return _build(Config(), dict(_flatten(values, Config(), "")))


def _flatten(values: Any, template: Any, prefix: str):
    if not isinstance(values, dict):
        raise ConfigError(f"{prefix.rstrip('.') or 'configuration'}: must be a dictionary of keys, got {values!r}")
    for field_name, value in values.items():
        name = f"{prefix}{field_name}"
        current = getattr(template, str(field_name), None)
        if is_dataclass(current):
            yield from _flatten(value, current, name + ".")
        elif name in known_keys():
            yield name, known_keys()[name].check(value)
        else:
            raise ConfigError(f"unknown key {name}{suggestion(name)}")


def config_differences(first: Config, second: Config) -> dict[str, tuple[Any, Any]]:
    """The keys whose values differ, each with both values."""
    others = all_keys(second)
    return {name: (key.default, others[name].default) for name, key in all_keys(first).items()
            if key.default != others[name].default}
