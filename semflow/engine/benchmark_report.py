"""What a benchmark says: the conditions, a table, and a record for JSON."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import semflow
from semflow.config.parser import config_to_dict
from semflow.engine.benchmark import PRODUCT_SIZE, BenchmarkSettings, Measurement
from semflow.utils.device import describe_device, resolve_device

TITLES = {
    "static": "static step", "dynamic": "dynamic step", "render": "rendering of a frame, RGB + semantics",
    "encode": "encoding of the clip, once per scene"}


def conditions(settings: BenchmarkSettings) -> dict[str, Any]:
    """Versions, machine, device, commit and load: what a figure is worth nothing without."""
    load = os.getloadavg() if hasattr(os, "getloadavg") else None
    return {
        "semflow": semflow.__version__, "commit": commit(), "torch": torch.__version__, "python": platform.python_version(),
        "system": platform.platform(), "cpu": cpu_name(), "cores": os.cpu_count(),
        "threads": settings.threads or torch.get_num_threads(), "load": None if load is None else round(load[0], 2),
        "device": describe_device(resolve_device(settings.device)), "flush_denormal": True,
    }


def cpu_name() -> str:
    """Model name of the CPU as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit() -> str | None:
    """Commit of the source tree, marked where it has changes; None where there is no git or no repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+changes"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None


def record(settings: BenchmarkSettings, measured: Mapping[str, Measurement]) -> dict[str, Any]:
    """Everything as JSON can hold it."""
    described = {name: value for name, value in vars(settings).items() if name != "config"}
    return {
        "conditions": conditions(settings),
        "settings": described | {"config": config_to_dict(settings.config)},
        "cases": {case: asdict(measurement) for case, measurement in measured.items()},
        "notes": notes(settings, measured),
    }


def notes(settings: BenchmarkSettings, measured: Mapping[str, Measurement]) -> list[str]:
    """What the figures are of."""
    size = "x".join([str(PRODUCT_SIZE)] * 3)
    lines = [f"products: time divided by that of a {size} float32 matrix product beside it",
             "steps: all losses of the configuration, forward, backward, clip and Adam, on a frame with both neighbours",
             "peak: of the process of the case on a CPU, of torch's allocations on CUDA; data and features included",
             "networks, data and deep features are random: with an occupancy grid a trained model renders in another time"]
    if "encode" not in measured:
        lines.append("encoding was skipped")
    if settings.config.train.recompute:
        lines.append("train.recompute is on: activations of the dynamic branch are computed twice")
    return lines


def format_table(settings: BenchmarkSettings, measured: Mapping[str, Measurement]) -> str:
    """The figures as text, with sizes above and notes below."""
    found, config = conditions(settings), settings.config
    sizes = [f"{name} step {stage.rays} rays x {stage.samples} samples"
             for name, stage in (("static", config.static_stage), ("dynamic", config.dynamic_stage))]
    conditions_line = (
        f"{found['device']}, {found['cpu']}, {found['threads']} of {found['cores']} threads, load {found['load']}; "
        f"torch {found['torch']}, python {found['python']}, commit {found['commit']}")
    head = [f"{settings.frames} frames of {settings.width}x{settings.height}, {settings.classes} classes; {'; '.join(sizes)}",
            conditions_line]
    rows = [("case", "time", "products", "one product", "peak memory", "runs")]
    rows += [(TITLES[case], seconds(m.seconds), f"{m.products:.3g}", seconds(m.product_seconds),
              f"{m.peak_bytes / 1e9:.2f} GB", str(m.runs)) for case, m in measured.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([*head, "", lines[0], "-" * max(map(len, lines)), *lines[1:], "", *notes(settings, measured)])


def seconds(value: float) -> str:
    """A duration with three digits, in ms below a second."""
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
