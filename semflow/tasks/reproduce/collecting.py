"""From the evaluations of runs to the figures of a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from semflow.metrics.statistics import Interval, bootstrap_interval, seed_interval, stratified_interval
from semflow.tasks.reproduce.plan import OURS, Job, Table
from semflow.tasks.reproduce.running import curve_checkpoints, is_done, metrics_file, read_record

NEW_VIEWS, OWN_VIEWS = "new views", "own views, unlabelled times"
GROUPS = {
    NEW_VIEWS: "cameras other than the one that took the time's frame; for labels only times without training labels, "
               "unless all times have them",
    OWN_VIEWS: "the training cameras at times without training labels",
}
IMAGE_METRICS = ("miou_foreground", "miou", "accuracy", "class_accuracy", "boundary_iou_foreground", "psnr", "ssim", "lpips")
COLORS = ("psnr", "ssim", "lpips")
SCENE_METRICS = ("scene_miou", "scene_miou_foreground_classes", "j_and_f", "flow_epe")
HELD_OUT = "held_out"
MAIN = "miou_foreground"


@dataclass(frozen=True)
class Image:
    """One judged image of a run: place, group (None: neither), frames to the nearest labelled one, metrics."""

    scene: str
    time: int
    camera: int
    group: str | None
    distance: int | None
    metrics: dict[str, float | None]


@dataclass(frozen=True)
class Judged:
    """One evaluation.

    Attributes:
        job: what was judged. images: every image. classes: class -> IoU over the held-out images, mean over scenes.
        scene_metrics: SCENE_METRICS of the held-out group, mean over scenes.
        steps: optimiser steps taken, of a point of a curve; None: all. record: times, commit, device.
    """

    job: Job
    images: list[Image]
    classes: dict[str, float]
    scene_metrics: dict[str, float | None]
    steps: int | None
    record: dict


@dataclass(frozen=True)
class Row:
    """A method on a task: all its seeds and scenes.

    Attributes:
        task, method: names. meaning: a sentence. runs: what was judged, empty where nothing is there yet.
        of: number of runs that the table asks for.
        differences: group -> MAIN minus that of ours on the same images; absent for ours.
    """

    task: str
    method: str
    meaning: str
    runs: list[Judged]
    of: int
    differences: dict[str, Interval | None]

    def interval(self, group: str, metric: str) -> Interval | None:
        """Mean over seeds and scenes: with the interval over seeds, or over images where there is one seed."""
        return interval_of(self.runs, lambda image: image.metrics.get(metric) if image.group == group else None)

    def by_distance(self, metric: str = MAIN) -> dict[int, Interval | None]:
        """The same for each distance to the nearest labelled frame, over both groups."""
        distances = sorted({i.distance for run in self.runs for i in run.images if i.group and i.distance is not None})
        return {d: interval_of(self.runs, lambda i, d=d: i.metrics.get(metric) if i.group and i.distance == d else None)
                for d in distances}

    def mean_over_runs(self, read: Callable[[Judged], float | None]) -> float | None:
        """Mean of a figure of each run; None where no run has it."""
        known = [value for value in map(read, self.runs) if value is not None]
        return sum(known) / len(known) if known else None

    @property
    def minutes(self) -> float | None:
        """Of training, mean over the runs."""
        return self.mean_over_runs(lambda run: run.record.get("seconds", {}).get("train", 0.0) / 60)


@dataclass(frozen=True)
class CurvePoint:
    """A method on the way: steps, and the mean of MAIN and PSNR over the new views."""

    task: str
    steps: int
    miou_foreground: float | None
    psnr: float | None


def collect(table: Table, jobs: Sequence[Job], every: int) -> tuple[list[Row], list[CurvePoint]]:
    """Rows of a table in its order, from what has been judged so far, and its curve."""
    asked = [job for job in jobs if job.task in table.tasks]
    judged = {job.folder.path: read_judged(job) for job in asked if is_done(job, every)}
    rows = []
    for task in table.tasks:
        of_task = [job for job in asked if job.task == task]
        ours = [judged[j.folder.path] for j in of_task if j.method.name == OURS and j.folder.path in judged]
        for method in dict.fromkeys(job.method for job in of_task):
            mine = [job for job in of_task if job.method == method]
            runs = [judged[job.folder.path] for job in mine if job.folder.path in judged]
            differences = {} if method.name == OURS else {group: difference(runs, ours, group) for group in GROUPS}
            rows.append(Row(task, method.name, method.meaning, runs, len(mine), differences))
    return rows, [point for job in asked if job.folder.path in judged for point in curve_of(job)]


def read_judged(job: Job, checkpoint: Path | None = None) -> Judged:
    """What an evaluation says."""
    content = json.loads(metrics_file(job, checkpoint).read_text(encoding="utf-8"))
    images, classes = [], {}
    for name, scene in content["scenes"].items():
        images += [read_image(name, image, scene) for image in scene["images"]]
        held_out = scene["groups"].get(HELD_OUT)
        for key, scores in (held_out["ours"]["classes"] if held_out else {}).items():
            if scores["iou"] is not None:
                classes.setdefault(key, []).append(scores["iou"])
    found = content["mean"][HELD_OUT]["ours"]
    steps = None if checkpoint is None else int(checkpoint.stem.removeprefix("step-"))
    return Judged(job, images, {key: sum(v) / len(v) for key, v in classes.items()},
                  {key: found.get(key) for key in SCENE_METRICS}, steps, read_record(job))


def read_image(scene: str, image: dict, content: dict) -> Image:
    """One image of metrics.json, with the group that it counts in here."""
    time, camera, labelled = image["time"], image["camera"], content["labelled_frames"]
    group, metrics = None, image["ours"]
    if camera != time:
        group = NEW_VIEWS
        if image["label_group"] != HELD_OUT:  # a labelled time: only its colours are new
            metrics = {name: value for name, value in metrics.items() if name in COLORS}
    elif time not in labelled:
        group = OWN_VIEWS
    distance = min((abs(time - frame) for frame in labelled), default=None)
    return Image(scene, time, camera, group, distance, metrics)


def interval_of(runs: Sequence[Judged], read: Callable[[Image], float | None]) -> Interval | None:
    """Mean over images, then scenes, then seeds, of what `read` gives; None where that is nothing.

    The interval is over the seeds where there are several, else over the images of each scene.
    """
    strata: dict[int, dict[str, list[float]]] = {}
    for run in runs:
        for image in run.images:
            value = read(image)
            if value is not None:
                strata.setdefault(run.job.seed, {}).setdefault(image.scene, []).append(value)
    if len(strata) < 2:
        return stratified_interval(list(strata[min(strata)].values())) if strata else None
    return seed_interval([bootstrap_interval([sum(v) / len(v) for v in scenes.values()]).mean for scenes in strata.values()])


def difference(runs: Sequence[Judged], ours: Sequence[Judged], group: str) -> Interval | None:
    """MAIN of a method minus that of ours, image by image of the same seed; what has no seed meets the first seed."""
    reference = {(run.job.seed, i.scene, i.time, i.camera): i.metrics.get(MAIN) for run in ours for i in run.images}

    def against_ours(run: Judged) -> Judged:
        images = []
        for image in run.images:
            own, other = image.metrics.get(MAIN), reference.get((run.job.seed, image.scene, image.time, image.camera))
            if image.group == group and own is not None and other is not None:
                images.append(Image(image.scene, image.time, image.camera, group, None, {MAIN: own - other}))
        return Judged(run.job, images, {}, {}, None, {})

    return interval_of([against_ours(run) for run in runs], lambda image: image.metrics[MAIN])


def curve_of(job: Job) -> list[CurvePoint]:
    """Points of a run with checkpoints on the way, its end included."""
    if not job.curve:
        return []
    points = []
    for path in [*curve_checkpoints(job), job.folder.newest_checkpoint]:
        last = path == job.folder.newest_checkpoint
        judged = read_judged(job, None if last else path)
        means = [interval_of([judged], lambda i, m=m: i.metrics.get(m) if i.group == NEW_VIEWS else None) for m in (MAIN, "psnr")]
        steps = int(path.stem.removeprefix("step-"))
        points.append(CurvePoint(job.task, steps, *(found.mean if found else None for found in means)))
    return points
