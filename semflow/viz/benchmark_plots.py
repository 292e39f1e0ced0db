"""Plots of benchmark records: stages of a step, sweeps, time to quality. Needs matplotlib, an optional extra."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semflow.engine.benchmark_report import digits, seconds
from semflow.utils.errors import ConfigError
from semflow.utils.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = dict[str, Any]
Parts = list[tuple[str, dict[str, Any]]]  # label, part

STEP_COLORS = {"static": "#4c8fbf", "dynamic": "#d9763d"}
GIGABYTE = 1e9
HEADROOM = 1.08  # of the highest value, or its marker would be cut
MOST_TICKS = 5  # more values of an axis would not fit below it
AXIS_TITLES = {
    "rays": "rays per step", "samples": "samples per ray", "frames": "frames", "scenes": "scenes", "classes": "classes"}
METRIC_TITLES = {"psnr": "PSNR, held-out views (dB)", "miou_foreground": "foreground mIoU per image, held-out views"}


def require_matplotlib() -> None:
    """Check that matplotlib is installed.

    Raises:
        ConfigError: it is not.
    """
    if find_spec("matplotlib") is None:
        raise ConfigError('plots: matplotlib is not installed; run pip install -e ".[plots]"')


def draw_plots(records: Sequence[Record], folder: Path) -> list[Path]:
    """Write benchmark_stages.png, benchmark_sweeps.png and benchmark_quality.png, as far as there are figures for them.

    Args:
        records: as `benchmark_report.make_record` gives them; their parts are drawn side by side.

    Returns:
        The files that were written.
    """
    require_matplotlib()
    figures = {"stages": draw_stages, "sweeps": draw_sweeps, "quality": draw_quality}
    written = []
    for name, draw in figures.items():
        known = labelled_parts(records, name)
        if known:
            path = folder / f"benchmark_{name}.png"
            with atomic_path(path) as temporary:
                draw(known).savefig(temporary, dpi=130)
            written.append(path)
    return written


def labelled_parts(records: Sequence[Record], kind: str) -> Parts:
    """The parts that have figures of a kind, with their names; where some share a name, with the commit as well."""
    parts = [(part, record["conditions"]["commit"]) for record in records for part in record["parts"] if part[kind]]
    names = [part["name"] for part, _ in parts]
    return [(name if names.count(name) == 1 else f"{name} ({commit})", part) for name, (part, commit) in zip(names, parts)]


def figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, whose parts do not overlap."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def draw_stages(parts: Parts) -> Figure:
    """Bars of the stages of both steps, one panel per part, in milliseconds."""
    names = list(next(iter(parts[0][1]["stages"].values()))["stages"])
    picture = figure(6.2 * len(parts), 0.42 * len(names) + 1.6)
    for ax, (label, part) in zip(picture.subplots(1, len(parts), squeeze=False)[0], parts):
        steps = part["stages"]
        height = 0.8 / len(steps)
        for number, (step, found) in enumerate(steps.items()):
            places = [i + (number - (len(steps) - 1) / 2) * height for i in range(len(names))]
            values = [1000 * found["stages"][name]["seconds"] for name in names]
            shown = [digits(value) if value else "" for value in values]
            legend = f"{step} step: {seconds(found['watched_seconds'])} ({seconds(found['step']['seconds'])} not watched)"
            bars = ax.barh(places, values, height, color=STEP_COLORS[step], label=legend)
            ax.bar_label(bars, shown, padding=3, fontsize=7)
        settings = part["settings"]["config"]["dynamic_stage"]
        ax.set_title(f"{label}, dynamic {settings['rays']} rays x {settings['samples']} samples", fontsize=10)
        ax.set_yticks(range(len(names)), names)
        ax.invert_yaxis()
        ax.set_xlabel("exclusive time in a step (ms)")
        ax.margins(x=0.12)
        ax.legend(fontsize=8, loc="lower right")
    return picture


def draw_sweeps(parts: Parts) -> Figure:
    """Time and memory of the dynamic step, one column per axis, one curve per part."""
    axes_names = [name for name in AXIS_TITLES if any(name in part["sweeps"] for _, part in parts)]
    picture = figure(3.0 * len(axes_names) + 0.6, 5.4)
    panels = picture.subplots(2, len(axes_names), squeeze=False)
    for column, axis in enumerate(axes_names):
        curves = [(label, part["sweeps"].get(axis, [])) for label, part in parts]
        values = sorted({point["value"] for _, points in curves for point in points})
        for label, points in curves:
            places = [point["value"] for point in points]
            panels[0][column].plot(places, [point["seconds"] for point in points], "o-", label=label)
            panels[1][column].plot(places, [point["peak_bytes"] / GIGABYTE for point in points], "o-", label=label)
        for row in panels:
            row[column].set_xlabel(AXIS_TITLES[axis])
            row[column].set_ylim(0, HEADROOM * row[column].get_ylim()[1])
            row[column].grid(alpha=0.3)
            if len(values) <= MOST_TICKS:
                row[column].set_xticks(values)
    panels[0][0].set_ylabel("dynamic step (s)")
    panels[1][0].set_ylabel("peak memory (GB)")
    panels[0][0].legend(fontsize=8)
    return picture


def draw_quality(parts: Parts) -> Figure:
    """PSNR and mIoU over minutes of training, one curve per part, with copying as a dashed line."""
    picture = figure(11.0, 4.2)
    panels: list[Axes] = list(picture.subplots(1, len(METRIC_TITLES)))
    for ax, (metric, title) in zip(panels, METRIC_TITLES.items()):
        for label, part in parts:
            quality = part["quality"]
            points = [p for p in quality["points"] if p["ours"][metric] is not None]
            minutes = [p["seconds"] / 60 for p in points]
            kind = "a run per point" if quality["mode"] == "runs" else "along one run"
            name = f"{', '.join(quality['scenes'])} ({label}; {kind})"
            (curve,) = ax.plot(minutes, [p["ours"][metric] for p in points], "o-", label=name)
            if points:
                ax.axhline(points[-1]["copying"][metric], linestyle="--", color=curve.get_color(), alpha=0.6,
                           label=f"{', '.join(quality['scenes'])}: copying")
        ax.set_xlim(left=0)
        ax.set_xlabel("training time (min)")
        ax.set_ylabel(title)
        ax.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    return picture
