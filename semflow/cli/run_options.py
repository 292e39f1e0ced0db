"""What the options of several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from semflow.utils.errors import CheckpointError, ConfigError

LABELS_DIR = ("--labels_dir", "--labels-dir")  # as the key of the configuration, and as the other options are spelt


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Declare which run, checkpoint and scene is shown, on which device, and what is rendered otherwise."""
    parser.add_argument("--run", type=Path, required=True, help="run folder")
    parser.add_argument("--checkpoint", type=Path, help="checkpoint file (default: the last of the run)")
    parser.add_argument("--scene", help="scene of the run (default: its first)")
    add_settings(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Declare --set, which takes several values and may be repeated, as that of `semflow reproduce`."""
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
                        help="render otherwise than the run says, e.g. render.samples=96; takes several, may be repeated")


def require_run(run: Path, out: Path | None, option: str = "--out") -> None:
    """Refuse a run folder that is not there with a CheckpointError, unless all is written elsewhere: none would be made by
    a mistyped name beside a --checkpoint.
    """
    if out is None and not run.is_dir():
        elsewhere = f", or say where to write by {option}" if option else ""
        raise CheckpointError(f"{run}: no such run folder; check --run{elsewhere}")


def note_replacement(file: Path, what: str) -> None:
    """Say that what a command left here before is written anew."""
    if file.exists():
        print(f"replacing the earlier {what} in {file.parent}")


def choose_scene(name: str | None, names: tuple[str, ...]) -> str:
    """The named scene of a run, or its first.

    Raises:
        ConfigError: the run has no such scene.
    """
    if name is not None and name not in names:
        raise ConfigError(f"scene = {name!r}: the run holds {', '.join(names)}")
    return name or names[0]
