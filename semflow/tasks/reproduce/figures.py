"""The pictures of a table: every method beside the truth, what ours knows besides, quality over steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from semflow.data.loader import load_scene
from semflow.engine.baselines import build_baseline
from semflow.engine.loading import load_run
from semflow.engine.scene_truth import Pair, SceneTruth
from semflow.rendering.view_renderer import ViewRenderer
from semflow.records import SceneData, View, to_device
from semflow.tasks.editing.edit_file import checked_edit
from semflow.tasks.editing.edited import edited_run, scenery_of
from semflow.tasks.reproduce.collecting import CurvePoint, Row
from semflow.tasks.reproduce.plan import OURS, Job
from semflow.utils.files import atomic_path
from semflow.viz.colors import color_disparity, color_entropy, color_labels, color_rgb
from semflow.viz.flow_wheel import color_flow
from semflow.viz.panels import Tile, overlay, side_by_side
from semflow.viz.video import write_png

VIEWS = 3  # rows of a comparison
QUANTITIES = frozenset({"rgb", "semantic", "depth", "entropy", "flow"})
OF_BASELINES = frozenset({"rgb", "semantic"})


def draw_figures(path: Path, rows: Sequence[Row], curve: Sequence[CurvePoint], device: str) -> list[Path]:
    """Write the figures of a table beside `path`, for the first scene and seed of each task; returns the files.

    Pictures that are newer than everything they show are left as they are.
    """
    written = []
    for task in dict.fromkeys(row.task for row in rows):
        jobs = [row.runs[0].job for row in rows if row.task == task and row.runs]
        if not jobs:
            continue
        files = [path.with_name(f"{path.name}_{task}_{kind}.png") for kind in ("views", "quantities", "edits")]
        if not is_newer(files[0], jobs):
            draw_views(*files, jobs, device)
        written += [file for file in files if file.exists()]
    if curve and find_spec("matplotlib") is not None:
        written.append(draw_curve(path.with_name(f"{path.name}_curve.png"), curve))
    return written


def is_newer(picture: Path, jobs: Sequence[Job]) -> bool:
    """Whether a picture was made after the evaluations of all jobs."""
    made = picture.stat().st_mtime if picture.exists() else 0.0
    return all(file.stat().st_mtime < made for job in jobs for file in job.folder.eval.glob("*/metrics.json"))


def draw_views(comparison: Path, quantities: Path, edits: Path, jobs: Sequence[Job], device: str) -> None:
    """A row per view: the frame of the time, the true labels, and each method's labels over its colours.

    In a picture of its own what ours renders - colours, labels, depth, flow, entropy -, in another how ours looks edited.
    """
    scene = given_scene(jobs[0])
    truth = SceneTruth(scene, load_scene(replace(jobs[0].config.data, labelled_frames="all"), scene.name).labels)
    pairs = chosen_pairs(truth)
    columns: list[list[Tile]] = [[] for _ in pairs]
    for tiles, pair in zip(columns, pairs):
        labels = truth.labels(pair.time, pair.camera)
        labels = torch.full(scene.rgb.shape[1:3], -1) if labels is None else labels
        shown = truth.rgb(pair.time, pair.camera)
        tiles.append((f"frame {pair.time}", color_rgb(scene.rgb[pair.time])))
        tiles.append((f"truth, camera {pair.camera}", overlay(color_rgb(shown), color_labels(labels, scene.label_map))))
    for job in jobs:
        views = views_of(job, scene, pairs, device)
        for tiles, view in zip(columns, views):
            tiles.append((job.method.name, overlay(color_rgb(view.rgb), color_labels(view.labels, scene.label_map))))
        if job.method.name == OURS:
            rows = [tile for view in views for tile in quantity_tiles(view, scene)]
            write_png(quantities, side_by_side(rows, columns=len(rows) // len(views)))
            draw_edits(edits, job, scene, pairs, device)
    write_png(comparison, side_by_side([tile for tiles in columns for tile in tiles], columns=len(columns[0])))


def given_scene(job: Job) -> SceneData:
    """The first scene of a job with the labels that it was given."""
    return load_scene(job.config.data, job.scenes[0])


def chosen_pairs(truth: SceneTruth) -> list[Pair]:
    """Scored images spread over the times: at times without labels where there are some, of other cameras where they have truth."""
    scored = truth.pairs(with_unscored=False)
    labelled = truth.seen(None).labelled
    for wanted in (lambda p: p.time not in labelled and p.camera != p.time, lambda p: p.time not in labelled,
                   lambda p: p.camera != p.time):
        found = [pair for pair in scored if wanted(pair)]
        if found:
            scored = found
            break
    scored = sorted(scored, key=lambda pair: (pair.time, pair.camera))
    return [scored[int((i + 0.5) / VIEWS * len(scored))] for i in range(min(VIEWS, len(scored)))]


def views_of(job: Job, scene: SceneData, pairs: Sequence[Pair], device: str) -> list[View]:
    """The views of a method, on the CPU."""
    if job.baseline:
        renderer, what = build_baseline(job.baseline, {scene.name: scene}), OF_BASELINES
        return [render(renderer, scene, pair, what) for pair in pairs]
    loaded = load_run(job.folder.path, device)
    on_device = scene.to(loaded.scenes[scene.name].rgb.device)
    return [render(loaded.renderer, on_device, pair, QUANTITIES) for pair in pairs]


def render(renderer: ViewRenderer, scene: SceneData, pair: Pair, what: frozenset[str]) -> View:
    """One view on the CPU."""
    return to_device(renderer.render(scene.name, scene.cameras, pair.camera, float(pair.time), what), "cpu")


def draw_edits(path: Path, job: Job, scene: SceneData, pairs: Sequence[Pair], device: str) -> None:
    """The views as they are, and without each class that moves."""
    loaded = load_run(job.folder.path, device)
    scenery = scenery_of(loaded, scene.name)
    names = dict.fromkeys(scene.label_map.names[found.label] for found in scenery.regions.instances if found.moves)
    shown = {"colours": loaded} | {
        f"without {name}": edited_run(loaded, scenery, [checked_edit({"do": "remove", "what": name}, "figure")]) for name in names}
    on_device = scene.to(loaded.scenes[scene.name].rgb.device)
    tiles = [(title, color_rgb(render(run.renderer, on_device, pair, frozenset({"rgb"})).rgb))
             for pair in pairs for title, run in shown.items()]
    write_png(path, side_by_side(tiles, columns=len(shown)))


def quantity_tiles(view: View, scene: SceneData) -> list[Tile]:
    """What a field knows of a view."""
    return [
        ("colours", color_rgb(view.rgb)), ("labels", color_labels(view.labels, scene.label_map)),
        ("1 / depth", color_disparity(1.0 / view.depth.clamp(min=1e-6))), ("scene motion", color_flow(view.flow)),
        ("entropy", color_entropy(view.entropy, len(scene.label_map)))]


def draw_curve(path: Path, curve: Sequence[CurvePoint]) -> Path:
    """fg mIoU and PSNR of the new views over steps, a line per task."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axes, name, title in zip(figure.subplots(1, 2), ("miou_foreground", "psnr"), ("fg mIoU", "PSNR (dB)")):
        for task in dict.fromkeys(point.task for point in curve):
            steps = sorted({point.steps for point in curve if point.task == task})
            means = [np.mean([value_of(p, name) for p in curve if p.task == task and p.steps == s]) for s in steps]
            axes.plot(steps, means, marker="o", label=task)
        axes.set(xlabel="steps", ylabel=title)
        axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
    return path


def value_of(point: CurvePoint, name: str) -> float:
    """A figure of a point, NaN where it is not known."""
    value = getattr(point, name)
    return np.nan if value is None else value
