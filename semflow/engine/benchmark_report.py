"""What a benchmark says: a record for JSON with conditions and figures, and its tables."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

import semflow
from semflow.config.parser import config_to_dict
from semflow.engine.benchmark import BenchmarkSettings
from semflow.engine.benchmark_quality import Quality
from semflow.engine.benchmark_stages import StageTimes
from semflow.engine.benchmark_sweep import SweepPoint
from semflow.engine.benchmark_timing import PRODUCT_SIZE, Measurement
from semflow.utils.device import describe_device, resolve_device
from semflow.utils.errors import DataError

FORMAT = "semflow benchmark 3"
TITLES = {
    "static": "static step", "dynamic": "dynamic step", "render-rgb": "rendering of a frame, RGB",
    "render-semantic": "rendering of a frame, semantics", "render": "rendering of a frame, RGB + semantics",
    "encode": "encoding of the clip, once per scene"}


@dataclass(frozen=True)
class Part:
    """Figures of one preset or configuration.

    Attributes:
        name: of the preset or of the configuration file. settings: sizes.
        load: of the machine, one minute's average, before the first case; None where the system does not tell.
        cases: case -> figures. stages: step -> stages. sweeps: axis -> points. quality: a curve, or None.
        failures: what could not be measured, and why.
    """

    name: str
    settings: BenchmarkSettings
    load: float | None
    cases: dict[str, Measurement] = field(default_factory=dict)
    stages: dict[str, StageTimes] = field(default_factory=dict)
    sweeps: dict[str, list[SweepPoint]] = field(default_factory=dict)
    quality: Quality | None = None
    failures: list[str] = field(default_factory=list)


def make_record(parts: list[Part]) -> dict[str, Any]:
    """Everything as JSON can hold it."""
    size = "x".join([str(PRODUCT_SIZE)] * 3)
    return {
        "format": FORMAT, "product": f"{size} float32 matrix product", "conditions": conditions(parts[0].settings),
        "parts": [part_record(part) for part in parts]}


def read_record(path: Path) -> dict[str, Any]:
    """The record in a file.

    Raises:
        DataError: there is none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; measure with --json {path} first") from None
    except ValueError as error:
        raise DataError(f"{path}: no JSON ({error}); name a file that --json wrote") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise DataError(f"{path}: not a record of this version ({FORMAT!r}); measure again with --json")
    return found


def conditions(settings: BenchmarkSettings) -> dict[str, Any]:
    """Versions, machine, device and commit: what a figure is worth nothing without."""
    return {
        "semflow": semflow.__version__, "commit": commit(), "torch": torch.__version__, "python": platform.python_version(),
        "system": platform.platform(), "cpu": cpu_name(), "cores": os.cpu_count(),
        "threads": settings.threads or torch.get_num_threads(),
        "device": describe_device(resolve_device(settings.device)), "flush_denormal": True,
    }


def load_average() -> float | None:
    """Mean number of running processes over the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


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


def part_record(part: Part) -> dict[str, Any]:
    """A part as JSON can hold it."""
    settings = {name: value for name, value in vars(part.settings).items() if name != "config"}
    return {
        "name": part.name,
        "load": part.load,
        "settings": settings | {"config": config_to_dict(part.settings.config)},
        "cases": {case: asdict(found) for case, found in part.cases.items()},
        "stages": {step: asdict(found) for step, found in part.stages.items()},
        "sweeps": {axis: [{"value": point.value, **asdict(point.measurement)} for point in points]
                   for axis, points in part.sweeps.items()},
        "quality": None if part.quality is None else asdict(part.quality) | {"scenes": list(part.quality.scenes)},
        "notes": notes(part),
    }


def notes(part: Part) -> list[str]:
    """What the figures are of."""
    lines = [f"not measured: {failure}" for failure in part.failures]
    lines.append("products: time divided by that of a float32 matrix product of the same moment")
    if part.cases or part.sweeps:
        lines += ["steps: all losses of the configuration, forward, backward, clip, Adam, on a frame with both neighbours",
                  "peak: of the process of the case on a CPU, of torch's allocations on CUDA; data and features included"]
    if part.settings.config.train.recompute and (part.cases or part.sweeps):
        lines.append("train.recompute is on: activations of the dynamic branch are computed twice")
    if any(case.startswith("render") for case in part.cases):
        lines.append(f"rendering: frames of {part.settings.render_width}x{part.settings.render_height}, " + (
            f"of the trained run {part.settings.run}" if part.settings.run else
            "random networks: with an occupancy grid a trained model renders in another time"))
    if part.stages:
        lines.append("stages: exclusive times of the watched step whose products are the median, without recomputation; "
                     "backward is whole")
    if part.quality is not None:
        lines.append("quality: pure training time; " + (
            "every point is a whole run of that length" if part.quality.mode == "runs" else "checkpoints along one run"))
    return lines


def format_record(record: dict[str, Any]) -> str:
    """The figures as text: the conditions, and per part its sizes, tables and notes."""
    found = record["conditions"]
    lines = [f"{found['device']}, {found['cpu']}, {found['threads']} threads, {found['cores']} cores; torch "
             f"{found['torch']}, python {found['python']}, commit {found['commit']}; a product: {record['product']}"]
    for part in record["parts"]:
        tables = [case_table(part), *stage_tables(part), *sweep_tables(part), quality_table(part)]
        lines += ["", *sizes(part), f"load {part['load']}", "", *(f"{text}\n" for text in tables if text), *part["notes"]]
    return "\n".join(lines)


def sizes(part: dict[str, Any]) -> list[str]:
    """The name, and the sizes of the random scenes where any were used."""
    settings = part["settings"]
    if not any(part[kind] for kind in ("cases", "stages", "sweeps")):
        return [part["name"]]
    steps = [f"{name} step {stage['rays']} rays x {stage['samples']} samples"
             for name in ("static", "dynamic") for stage in [settings["config"][f"{name}_stage"]]]
    return [f"{part['name']}: {settings['scenes']} scene(s) of {settings['frames']} frames of {settings['width']}x"
            f"{settings['height']}, {settings['classes']} classes", "; ".join(steps)]


def case_table(part: dict[str, Any]) -> str:
    """Steps, frames and encoding."""
    return table([("case", "time", "per second", "products", "one product", "peak memory", "runs")] + [
        (TITLES[case], seconds(m["seconds"]), digits(1 / m["seconds"]), *figures(m), str(m["runs"]))
        for case, m in part["cases"].items()])


def figures(m: dict[str, Any]) -> tuple[str, str, str]:
    """Products, time of a product and peak memory of a measurement."""
    return digits(m["products"]), seconds(m["product_seconds"]), f"{m['peak_bytes'] / 1e9:.2f} GB"


def stage_tables(part: dict[str, Any]) -> Iterable[str]:
    """One table per step: the stages, their sum, and the step as it is when nothing is watched."""
    for step, found in part["stages"].items():
        whole = found["watched_seconds"]
        rows = [(f"{step} step, stage", "time", "share", "products", "calls")]
        rows += [(name, seconds(s["seconds"]), f"{s['seconds'] / whole:.1%}", digits(s["products"]), str(s["calls"] or ""))
                 for name, s in found["stages"].items() if s["seconds"]]
        rows += [("sum", seconds(whole), "100.0%", digits(whole / found["product_seconds"]), ""),
                 ("step, not watched", seconds(found["step"]["seconds"]), "", digits(found["step"]["products"]), "")]
        yield table(rows)


def sweep_tables(part: dict[str, Any]) -> Iterable[str]:
    """One table per axis."""
    for axis, points in part["sweeps"].items():
        yield table([(f"dynamic step, {axis}", "time", "products", "one product", "peak memory")] + [
            (str(point["value"]), seconds(point["seconds"]), *figures(point)) for point in points])


def quality_table(part: dict[str, Any]) -> str:
    """Metrics over training time; in brackets those of copying."""
    quality = part["quality"]
    if quality is None:
        return ""
    scenes = ", ".join(quality["scenes"])
    rows = [(f"{scenes}: training", "seconds", "products", "steps", "PSNR", "foreground mIoU per image")]
    for point in quality["points"]:
        metrics = [f"{score(point['ours'][key], places)} ({score(point['copying'][key], places)})"
                   for key, places in (("psnr", 2), ("miou_foreground", 3))]
        in_products = f"{point['seconds'] / point['product_seconds']:.0f}"
        rows.append((f"{point['minutes']:g} min", f"{point['seconds']:.1f}", in_products,
                     " + ".join(f"{count} {name}" for name, count in point["steps"].items() if count), *metrics))
    return table(rows)


def score(value: float | None, places: int) -> str:
    """A metric, or a dash."""
    return "-" if value is None else f"{value:.{places}f}"


def table(rows: list[tuple[str, ...]]) -> str:
    """Columns of fixed width under a line; empty where there is nothing below the head."""
    if len(rows) < 2:
        return ""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def seconds(value: float) -> str:
    """A duration with three digits, in ms below a second."""
    return f"{digits(value * 1000)} ms" if value < 1 else f"{digits(value)} s"


def digits(value: float) -> str:
    """Three significant digits, or all before the point; no exponent for large numbers."""
    return f"{value:.3g}" if value < 999.5 else f"{value:.0f}"
