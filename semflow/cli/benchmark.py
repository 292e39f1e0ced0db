"""Measure step times, memory and rendering time beside a matrix product, on a random scene in memory.

Times are also given in multiples of a 2048 x 2048 x 2048 float32 matrix product of the same moment ("products"), so
that figures of different machines can be compared. Needs no data.
"""

from __future__ import annotations

import argparse
import platform
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from semflow.utils.errors import ConfigError

if TYPE_CHECKING:
    from semflow.config.schema import Config
    from semflow.engine.benchmark import Measurement

GIB = 1024**3
CASES = ("static", "dynamic", "render")
PRESETS = {  # rays, samples, height, width; None keeps the configuration's
    "published": (1024, 64, 270, 480),
    "small": (128, 32, 135, 240),
    "fast": (None, None, 135, 240),
}
DESCRIPTIONS = {
    "published": "published networks, losses and batch at 480x270, activations of the dynamic branch recomputed",
    "small": "published networks and losses, 128 rays x 32 samples at 240x135",
    "fast": "the fast form of configs/balloon.txt at 240x135",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `semflow benchmark`."""
    names = "; ".join(f"{name}: {text}" for name, text in DESCRIPTIONS.items())
    parser.add_argument("--preset", choices=tuple(PRESETS), default="published", help=f"{names} (default: %(default)s)")
    parser.add_argument("--config", help="configuration to measure instead of the preset's")
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {', '.join((*CASES, 'encode'))} (default: %(default)s)")
    for name in ("rays", "samples", "height", "width"):
        parser.add_argument(f"--{name}", type=int, help="in place of the preset's")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--classes", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=5, help="timed steps per case (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0 = torch's choice)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--json", type=Path, help="also write the figures there")


def run(args: argparse.Namespace) -> int:
    """Measure and print the table.

    Raises:
        SemflowError: a bad option, or a case for which memory ran out.
    """
    cases = tuple(args.cases.split(","))
    known = (*CASES, "encode")
    if not set(cases) <= set(known):
        raise ConfigError(f"cases = {args.cases}: choose from {', '.join(known)}")
    from semflow.engine.benchmark import BenchmarkSettings, measure
    from semflow.utils.files import write_json

    rays, samples, height, width = (
        getattr(args, name) or value for name, value in zip(("rays", "samples", "height", "width"), PRESETS[args.preset]))
    settings = BenchmarkSettings(
        config=benchmark_config(args, rays, samples), height=height, width=width, frames=args.frames, classes=args.classes,
        repeats=args.repeats, threads=args.threads, device=args.device)
    print(f"{DESCRIPTIONS[args.preset] if not args.config else args.config}; {args.frames} frames of {width}x{height}, "
          f"random maps in place of the deep encoders'; {describe_machine(args)}")
    print(f"{'case':10}{'seconds':>10}{'products':>10}{'peak GiB':>10}{'runs':>6}{'product ms':>12}", flush=True)
    found = {}
    for case in cases:
        found[case] = measure(settings, case)
        print(row(case, found[case]), flush=True)
    if args.json:
        write_json(args.json, report(args, settings.config, found))
        print(f"written: {args.json}")
    return 0


def benchmark_config(args: argparse.Namespace, rays: int | None, samples: int | None) -> Config:
    """The configuration that the options name, with its batch size replaced where asked."""
    from semflow.config.parser import config_from_file
    from semflow.config.schema import Config

    root = Path(__file__).resolve().parents[2] / "configs"
    if args.config:
        config = config_from_file(args.config)
    elif args.preset == "fast":
        config = config_from_file(root / "balloon.txt")
    else:
        config = Config()
        config = replace(config, train=replace(config.train, recompute=args.preset == "published"))
    stages = {}
    for name in ("static_stage", "dynamic_stage"):
        stage = getattr(config, name)
        stages[name] = replace(stage, rays=rays or stage.rays, samples=samples or stage.samples)
    return replace(config, **stages)


def row(case: str, figures: Measurement) -> str:
    """A line of the table."""
    return (f"{case:10}{figures.seconds:10.3f}{figures.products:10.1f}{figures.peak_bytes / GIB:10.2f}{figures.runs:6d}"
            f"{1000 * figures.product_seconds:12.1f}")


def describe_machine(args: argparse.Namespace) -> str:
    """Processor, threads and versions in a line."""
    import torch

    info, name = Path("/proc/cpuinfo"), platform.processor() or platform.machine()
    if info.exists():
        name = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), name)
    threads = args.threads or torch.get_num_threads()
    return f"{name}, {threads} threads, torch {torch.__version__}, Python {platform.python_version()}"


def report(args: argparse.Namespace, config: Config, found: dict[str, Measurement]) -> dict:
    """Everything that tells one measurement from another, for --json."""
    from semflow import __version__
    from semflow.config.parser import config_to_dict

    options = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items() if not callable(value)}
    return {
        "semflow": __version__,
        "machine": describe_machine(args),
        "options": options,
        "config": config_to_dict(config),
        "cases": {case: vars(figures) for case, figures in found.items()},
    }
