"""Measure training steps, memory and rendering on a random scene, beside a matrix product.

Times are given in seconds and in products (of two 2048x2048 float32 matrices, timed in the same moment), so that
figures can be compared between machines. No data is read.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from semflow.utils.errors import ConfigError

if TYPE_CHECKING:
    from semflow.config.schema import Config

CASE_NAMES = ("static", "dynamic", "render", "encode")
FAST_CONFIG = Path(__file__).resolve().parents[2] / "configs" / "balloon.txt"


@dataclass(frozen=True)
class Preset:
    """Sizes that have a name; None: as the configuration says."""

    height: int
    width: int
    rays: int | None = None
    samples: int | None = None
    recompute: bool | None = None


PRESETS = {
    "published": Preset(270, 480, 1024, 64, recompute=True),
    "small": Preset(135, 240, 128, 32),
    "fast": Preset(135, 240),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `semflow benchmark`."""
    parser.add_argument("--preset", choices=PRESETS, default="published",
                        help="sizes: published (1024 x 64 at 480x270), small (128 x 32 at 240x135), fast (the demo's "
                             "configuration at 240x135); default: %(default)s. The options below go before it")
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration file (default: the published model; "
                        "for --preset fast configs/balloon.txt); its rays and samples count unless they are given here")
    for name, meaning in (("rays", "per step"), ("samples", "per ray, in training"), ("height", "of the frames"),
                          ("width", "of the frames")):
        parser.add_argument(f"--{name}", type=int, metavar="N", help=f"{name} {meaning}")
    parser.add_argument("--frames", type=int, default=12, metavar="N", help="default: %(default)s")
    parser.add_argument("--classes", type=int, default=6, metavar="N", help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=5, metavar="N",
                        help="timed steps, after one untimed; of frames and clips a tenth, at least one (default: %(default)s)")
    parser.add_argument("--cases", default=",".join(CASE_NAMES), metavar="LIST", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads (default: torch's choice)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: %(default)s)")
    parser.add_argument("--recompute", action=argparse.BooleanOptionalAction, help="as train.recompute; published: on")
    parser.add_argument("--skip-encoding", action=argparse.BooleanOptionalAction,
                        help="leave out the case encode (default: for the published preset on a CPU)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything to FILE")


def run(args: argparse.Namespace) -> int:
    """Measure case by case, print the table and write the record.

    Raises:
        SemflowError: a bad option or configuration, a device that is not there, too little memory.
    """
    cases = checked_cases(args)
    if args.json is not None and args.json.exists():
        raise ConfigError(f"json = {args.json}: the file exists; name another or remove it")
    # Imported late: help and bad options need none of the engine.
    from semflow.engine.benchmark import BenchmarkSettings, measure
    from semflow.engine.benchmark_report import format_table, record
    from semflow.utils.device import resolve_device
    from semflow.utils.files import write_json

    preset = PRESETS[args.preset]
    settings = BenchmarkSettings(
        config=sized_config(args, preset), height=args.height or preset.height, width=args.width or preset.width,
        frames=args.frames, classes=args.classes, repeats=args.repeats, threads=args.threads, device=args.device)
    skip = args.skip_encoding
    if skip is None:
        skip = resolve_device(args.device).type == "cpu" and args.preset == "published"
    measured = {}
    for case in cases:
        if not (case == "encode" and skip):
            print(f"measuring: {case} …", flush=True)
            measured[case] = measure(settings, case)
    print(format_table(settings, measured))
    if args.json is not None:
        write_json(args.json, record(settings, measured))
        print(f"written: {args.json}")
    return 0


def checked_cases(args: argparse.Namespace) -> list[str]:
    """The cases asked for, once all numbers are known to be usable."""
    lowest = {"rays": 2, "samples": 2, "height": 16, "width": 16, "frames": 3, "classes": 2, "repeats": 1, "threads": 0}
    for name, low in lowest.items():
        value = getattr(args, name)
        if value is not None and value < low:
            raise ConfigError(f"{name} = {value}: must be at least {low}")
    cases = [case.strip() for case in args.cases.split(",")]
    unknown = [case for case in cases if case not in CASE_NAMES]
    if unknown:
        raise ConfigError(f"cases = {args.cases}: {unknown[0]!r} is none of {', '.join(CASE_NAMES)}")
    return cases


def sized_config(args: argparse.Namespace, preset: Preset) -> Config:
    """The configuration of the networks and losses with the sizes asked for."""
    from semflow.config.parser import config_from_file
    from semflow.config.schema import Config

    path = args.config or (FAST_CONFIG if args.preset == "fast" else None)
    config = config_from_file(path) if path else Config()
    own = preset if args.config is None else Preset(preset.height, preset.width)  # a given file speaks for itself
    changes = {name: value for name in ("rays", "samples") if (value := getattr(args, name) or getattr(own, name))}
    recompute = next((x for x in (args.recompute, own.recompute) if x is not None), config.train.recompute)
    for name in ("static_stage", "dynamic_stage"):
        config = replace(config, **{name: replace(getattr(config, name), **changes)})
    return replace(config, train=replace(config.train, recompute=recompute))
