"""A table as Markdown for people, CSV for spreadsheets and JSON with everything."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from semflow.config.parser import config_to_dict
from semflow.engine.protocols import find_protocol
from semflow.metrics.statistics import Interval
from semflow.tasks.reproduce.collecting import (
    GROUPS,
    IMAGE_METRICS,
    MAIN,
    NEW_VIEWS,
    OWN_VIEWS,
    SCENE_METRICS,
    CurvePoint,
    Judged,
    Row,
)
from semflow.tasks.reproduce.plan import Budget, Table
from semflow.tasks.reproduce.published import published
from semflow.tasks.reproduce.running import PROTOCOL
from semflow.utils.files import write_json, write_text

TITLES = {
    "miou_foreground": "fg mIoU", "miou": "mIoU", "accuracy": "accuracy", "class_accuracy": "class acc.", "psnr": "PSNR",
    "ssim": "SSIM", "lpips": "LPIPS", "boundary_iou_foreground": "fg boundary", "j_and_f": "J&F"}
SHOWN = {NEW_VIEWS: ("miou_foreground", "miou", "psnr"), OWN_VIEWS: ("miou_foreground", "miou")}


def write_tables(path: Path, table: Table, budget: Budget, rows: Sequence[Row], curve: Sequence[CurvePoint],
                 pictures: Sequence[Path] = ()) -> None:
    """Write `path` with .md, .csv and .json added to its name; `pictures` are shown at the end of the first."""
    page, figures, everything = (path.with_name(path.name + ending) for ending in (".md", ".csv", ".json"))
    write_text(page, markdown(table, budget, rows, curve, [p.relative_to(path.parent) for p in pictures]))
    write_text(figures, comma_separated(rows))
    write_json(everything, record(table, budget, rows, curve))


def markdown(table: Table, budget: Budget, rows: Sequence[Row], curve: Sequence[CurvePoint], pictures: Sequence[Path]) -> str:
    """The page of a table."""
    scenes = sorted({image.scene for row in rows for run in row.runs for image in run.images})
    commits = sorted({str(run.record.get("commit")) for row in rows for run in row.runs})
    done, of = sum(len(row.runs) for row in rows), sum(row.of for row in rows)
    lines = [f"# {table.title}", "", f"Budget `{budget.name}`, scenes {', '.join(scenes) or '-'}, "
             f"{len(budget.seeds)} seed(s), protocol `{find_protocol(PROTOCOL).version}`, one in {budget.every} new views, "
             f"{done} of {of} runs, commit {', '.join(commits) or '-'}.", ""]
    lines += main_table(rows)
    lines += ["", *(f"- {name}: {meaning}." for name, meaning in meanings(rows).items()), ""]
    lines += [f"- **{group}**: {rule}." for group, rule in GROUPS.items()]
    lines += ["- In brackets the 95 % interval: over seeds, or a bootstrap over images where there is one seed. *minus ours*: "
              "the difference of fg mIoU, image by image.", "- fg mIoU: classes that may move, all others merged into one; mean "
              "over the classes present in the image, then over images and scenes.",
              f"- published: {published_note(rows)}.", ""]
    lines += distance_table(rows) + class_table(rows) + curve_table(curve)
    lines += [f"![{path.stem}]({path.as_posix()})\n" for path in pictures]
    return "\n".join(lines).rstrip() + "\n"


def published_note(rows: Sequence[Row]) -> str:
    """What the last column holds."""
    known = any(published(row.task, row.method) for row in rows)
    return "the figure of the paper, where it is known" if known else "the figure of the paper; none is known here"


def meanings(rows: Sequence[Row]) -> dict[str, str]:
    """What each row is."""
    return {row.method: row.meaning for row in rows}


def main_table(rows: Sequence[Row]) -> list[str]:
    """The table that counts; columns of which nothing is known are left out."""
    columns = [(group, metric) for group, metrics in SHOWN.items() for metric in metrics
               if any(row.interval(group, metric) for row in rows)]
    head, body = ["task", "method"], [[row.task, row.method] for row in rows]
    for group, metric in columns:
        head.append(f"{group}: {TITLES[metric]}")
        for cells, row in zip(body, rows):
            cells.append(cell(row.interval(group, metric), metric, with_ends=metric == MAIN))
        if metric == MAIN and any(row.differences for row in rows):
            head.append("minus ours")
            for cells, row in zip(body, rows):
                cells.append(cell(row.differences.get(group), metric, sign=True))
    head += ["J&F", "minutes", "published"]
    for cells, row in zip(body, rows):
        j_and_f = row.mean_over_runs(lambda run: run.scene_metrics["j_and_f"])
        cells += [number(j_and_f, 3), number(row.minutes, 1), published(row.task, row.method)]
    return as_table(head, body)


def distance_table(rows: Sequence[Row]) -> list[str]:
    """fg mIoU by distance to the nearest labelled frame, where there is more than one distance."""
    found = [row.by_distance() for row in rows]
    distances = sorted({distance for cells in found for distance, interval in cells.items() if interval is not None})
    if len(distances) < 2:
        return []
    head = ["task", "method", *(f"{distance} frames" if distance != 1 else "1 frame" for distance in distances)]
    body = [[row.task, row.method, *(cell(cells.get(d), MAIN) for d in distances)] for row, cells in zip(rows, found)]
    return ["## fg mIoU by distance to the nearest labelled frame", "", *as_table(head, body), ""]


def class_table(rows: Sequence[Row]) -> list[str]:
    """IoU of each class over the held-out images."""
    names = list(dict.fromkeys(name for row in rows for run in row.runs for name in run.classes))
    if not names:
        return []
    body = [[row.task, row.method, *(number(row.mean_over_runs(lambda r, n=n: r.classes.get(n)), 3) for n in names)]
            for row in rows]
    return ["## IoU by class, one confusion matrix per scene", "", *as_table(["task", "method", *names], body), ""]


def curve_table(curve: Sequence[CurvePoint]) -> list[str]:
    """Quality over steps; points of several seeds are averaged."""
    tasks = list(dict.fromkeys(point.task for point in curve))
    steps = sorted({point.steps for point in curve})
    body = []
    for step in steps:
        cells = [str(step)]
        for task in tasks:
            here = [point for point in curve if point.task == task and point.steps == step]
            cells += [number(average([p.miou_foreground for p in here]), 3), number(average([p.psnr for p in here]), 2)]
        body.append(cells)
    head = ["steps", *(f"{task}: {title}" for task in tasks for title in ("fg mIoU", "PSNR"))]
    return ["## Quality over steps, new views", "", *as_table(head, body), ""] if body else []


def average(values: Sequence[float | None]) -> float | None:
    """Mean of the known values."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def as_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *body]]


def cell(interval: Interval | None, metric: str, with_ends: bool = True, sign: bool = False) -> str:
    """For example "0.912 [0.900, 0.921]"."""
    if interval is None:
        return ""
    digits, plus = 2 if metric == "psnr" else 3, "+" if sign else ""
    text = f"{interval.mean:{plus}.{digits}f}"
    return text if interval.low is None or not with_ends else f"{text} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def number(value: float | None, digits: int) -> str:
    """A figure, or nothing."""
    return "" if value is None else f"{value:.{digits}f}"


def comma_separated(rows: Sequence[Row]) -> str:
    """Every figure of every run: task, method, scenes, seed, group, metric, value."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["task", "method", "scenes", "seed", "group", "metric", "value", "low", "high", "images"])
    for row in rows:
        for run in row.runs:
            alone = Row(row.task, row.method, row.meaning, [run], 1, {})
            place = [row.task, row.method, "+".join(run.job.scenes), run.job.seed]
            for group in GROUPS:
                for metric in IMAGE_METRICS:
                    found = alone.interval(group, metric)
                    if found is not None:
                        writer.writerow([*place, group, metric, found.mean, found.low, found.high, found.count])
            for metric, value in {**run.scene_metrics, **{f"iou {name}": v for name, v in run.classes.items()}}.items():
                if value is not None:
                    writer.writerow([*place, "held-out", metric, value, "", "", ""])
    return text.getvalue()


def record(table: Table, budget: Budget, rows: Sequence[Row], curve: Sequence[CurvePoint]) -> dict:
    """Everything, with each run's configuration, commit, seed and times."""
    return {
        "table": asdict(table), "budget": asdict(budget), "protocol": find_protocol(PROTOCOL).to_json(), "groups": GROUPS,
        "rows": [row_record(row) for row in rows], "curve": [asdict(point) for point in curve],
    }


def row_record(row: Row) -> dict:
    """A row."""
    intervals = {group: {metric: none_or_dict(row.interval(group, metric)) for metric in IMAGE_METRICS} for group in GROUPS}
    distances = {str(key): none_or_dict(value) for key, value in row.by_distance().items()}
    return {
        "task": row.task, "method": row.method, "meaning": row.meaning, "published": published(row.task, row.method),
        "runs_asked_for": row.of, "metrics": intervals, "by_distance": distances,
        "minus_ours": {group: none_or_dict(value) for group, value in row.differences.items()},
        "runs": [run_record(run) for run in row.runs]}


def run_record(run: Judged) -> dict:
    """A run."""
    return {
        "seed": run.job.seed, "scenes": list(run.job.scenes), "folder": str(run.job.folder.path), **run.record,
        "scene_metrics": {key: run.scene_metrics[key] for key in SCENE_METRICS}, "class_iou": run.classes,
        "config": config_to_dict(run.job.config)}


def none_or_dict(interval: Interval | None) -> dict | None:
    """An interval as JSON can hold it."""
    return None if interval is None else asdict(interval)
