"""Evaluation of a renderer under a named protocol, beside what mere copying scores.

`<out>/<protocol>/metrics.json` holds
    protocol    every choice of the protocol
    evaluated   {"checkpoint": file name, "step", "steps": of the whole run, "settings": [KEY=VALUE]} or {"baseline": name};
                null where the caller did not say
    subset      {"every": N, "images": evaluated, "of": all that have truth}
    notes       what could not be computed, and why
    mean        group -> {"ours", "copying"} -> metric, mean over scenes
    mean_intervals  group -> {"ours", "copying", "difference"} -> metric -> INTERVAL or null, of the mean over scenes
    scenes      scene -> {"labelled_frames", "color_frames", "foreground",
                          "groups": group -> {"images", "labelled_images", "ours", "copying"} or null,
                          "distances": {"own_camera", "other_cameras"} -> [{"distance", "images", "labelled_images",
                              "ours", "copying"}], nearest first,
                          "intervals": group -> {"ours", "copying", "difference"} -> metric -> INTERVAL or null,
                          "images": [{"time", "camera", "color_group", "label_group", "ours", "copying"}]}
"ours" and "copying" hold metric -> value; those of a group also "classes": class -> {"iou", "accuracy", "images": whose
truth shows it} and "objects": foreground class -> {"j", "f", "images"}. A distance counts frames from the image's time to
the nearest labelled frame for metrics of labels, to the nearest frame whose colours were trained on for the others; 0 is
such a frame; "own_camera" are the images with c == t. An INTERVAL is {"mean", "low", "high", "count"} over images,
95 % by bootstrap (`metrics/statistics.py`); "difference" is ours - copying, image by image.
Times and cameras are 0-based, null stands for what is not known. Beside it lie `table.txt`, `<scene>/overview.png` and,
where views are saved, `<scene>/t000_c000_rgb.png` and `<scene>/t000_c000_labels.png`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from semflow.engine.copying import CopyingRenderer
from semflow.engine.evaluation_files import OverviewRow, choose_overview, drop_views, save_overview, save_view
from semflow.engine.evaluation_table import format_table
from semflow.engine.protocols import EvaluationProtocol, SeenInTraining
from semflow.engine.scene_result import Intervals, SceneResult, group_intervals, intervals_to_json, make_scene_result
from semflow.engine.scene_truth import FlowTruth, Pair, SceneTruth
from semflow.engine.scores import (
    ImageResult,
    ImageScores,
    Metrics,
    mean_over_scenes,
    score_colors,
    score_flow,
    score_labels,
)
from semflow.metrics.image import Lpips, find_lpips
from semflow.records import SceneData, View, to_device
from semflow.rendering.view_renderer import ViewRenderer
from semflow.utils.errors import CheckpointError, ConfigError
from semflow.utils.files import write_json, write_text
from semflow.utils.ranks import gather_parts, own_part, rank


@dataclass(frozen=True)
class EvaluationResult:
    """Everything an evaluation found.

    Attributes:
        protocol: what was done.
        scenes: per scene.
        means: group name -> {"ours", "copying"} -> metric, mean over scenes.
        intervals: group name -> {"ours", "copying", "difference"} -> metric -> interval of the mean over scenes.
        folder: where the files were written.
        table: text to print.
    """

    protocol: EvaluationProtocol
    scenes: list[SceneResult]
    means: dict[str, dict[str, Metrics]]
    intervals: dict[str, Intervals]
    folder: Path
    table: str

    @property
    def headline(self) -> Metrics:
        """The model's metrics of the group that counts, mean over scenes."""
        return self.means[self.protocol.headline]["ours"]


@torch.no_grad()
def evaluate(
    renderer: ViewRenderer,
    scenes: Sequence[SceneData],
    out: Path,
    protocol: EvaluationProtocol,
    save: bool = False,
    truth_labels: Mapping[str, Tensor] | None = None,
    truth_flow: Mapping[str, FlowTruth] | None = None,
    color_frames: Mapping[str, Collection[int]] | None = None,
    every: int = 1,
    progress: bool = True,
    evaluated: Mapping[str, Any] | None = None,
) -> EvaluationResult:
    """Render and score the scenes, write the files described above, replacing those of an earlier evaluation.

    Several ranks share the views, each saves its own where they are saved, and rank 0 writes the rest. All get the result.

    Args:
        renderer: the model, or anything else that renders; asked for one camera after the other.
        scenes: scenes with the labels that training was given: they tell held-out times from training times.
        out: evaluation folder; files go to `out/<protocol>`.
        protocol: see `protocols`.
        save: write a PNG of colours and one of labels of every time and camera, also of those without truth.
        truth_labels: scene -> (T, H, W) int64 labels of the own frames as truth; default: the scene's.
        truth_flow: scene -> truth of the scene motion, where there is one.
        color_frames: scene -> frames whose colours were trained on; default: all.
        every: N evaluates one in N views of other cameras than that of the time; the own views always.
        progress: show a bar.
        evaluated: what the renderer is, to be kept in metrics.json as it is.

    Raises:
        ConfigError: `every` below 1.
        CheckpointError: the renderer gives something that is no image.
        DataError: a truth file is broken.
    """
    if every < 1:
        raise ConfigError(f"every = {every}: must be at least 1")
    folder = Path(out) / protocol.name
    truths = [
        SceneTruth(scene, (truth_labels or {}).get(scene.name, scene.labels), (truth_flow or {}).get(scene.name))
        for scene in scenes
    ]
    lpips = find_lpips(str(scoring_device(scenes[0].rgb.device)))
    judge = Judge(renderer, CopyingRenderer({scene.name: scene for scene in scenes}), protocol, lpips)
    results = []
    for truth in truths:
        seen = truth.seen((color_frames or {}).get(truth.scene.name))
        results.append(evaluate_scene(judge, truth, seen, folder / truth.scene.name, save, every, progress))
    notes = unfinished(evaluated or {}) + make_notes(judge, results, every, any(truth.flow for truth in truths))
    about = {"evaluated": None if evaluated is None else dict(evaluated), "saved_views": save, "notes": notes}
    return write_result(folder, protocol, results, every, about)


@dataclass(frozen=True)
class Judge:
    """Renders an image by the model and by copying, and scores both by the same code."""

    renderer: ViewRenderer
    copying: ViewRenderer
    protocol: EvaluationProtocol
    lpips: Lpips

    def render(self, renderer: ViewRenderer, truth: SceneTruth, pair: Pair) -> View:
        """A view on the device of scoring.

        Raises:
            CheckpointError: colours of the wrong size, or not finite.
        """
        scene = truth.scene
        what = {"rgb"} | ({"semantic"} if len(scene.label_map) else set())
        if truth.flow is not None and self.protocol.flow_error:
            what |= {"flow"}
        view = renderer.render(scene.name, scene.cameras, pair.camera, float(pair.time), frozenset(what))
        where = f"scene {scene.name}, time {pair.time}, camera {pair.camera}"
        size = (scene.height, scene.width)
        images = [view.rgb] if view.logits is None else [view.rgb, view.logits]
        if any(image is None or image.shape[:2] != size for image in images):
            raise CheckpointError(f"{where}: the rendered image is not {scene.width}x{scene.height}; check data.factor")
        known = {name: value for name, value in vars(view).items() if value is not None}
        if not all(value.isfinite().all() for value in known.values()):
            raise CheckpointError(f"{where}: the rendered image is not finite; use an earlier --checkpoint")
        device = scoring_device(scene.rgb.device)
        return replace(view, **{name: value.to(device) for name, value in known.items()})

    def score(self, view: View, truth: SceneTruth, pair: Pair, rgb: Tensor, labels: Tensor | None) -> ImageScores:
        """Scores of a view against truth colours (H, W, 3) and labels (H, W)."""
        wanted = truth.flow is not None and self.protocol.flow_error
        flow = truth.flow(pair.time, pair.camera) if wanted else None
        if flow is not None:
            flow = tuple(part.to(rgb.device) for part in flow)
        metrics = score_colors(view, rgb, self.protocol, self.lpips) | score_flow(view, flow)
        if labels is None or view.logits is None:
            return ImageScores(metrics)
        scores = score_labels(view.labels, labels, truth.scene.label_map, self.protocol)
        return replace(scores, metrics=metrics | scores.metrics)


def evaluate_scene(
    judge: Judge, truth: SceneTruth, seen: SeenInTraining, folder: Path, save: bool, every: int, progress: bool
) -> SceneResult:
    """Render, score and picture one scene; arguments as in `evaluate`."""
    scene, device = truth.scene, scoring_device(truth.scene.rgb.device)
    pairs = truth.pairs(with_unscored=save, every=every)
    shown, rows, images, saved = choose_overview(pairs), [], [], []
    own = own_part(pairs)  # camera by camera, as the renderer likes it
    for pair in tqdm(own, desc=f"evaluating {scene.name}", unit="view", disable=not progress or rank() > 0):
        view = judge.render(judge.renderer, truth, pair)
        if save:
            saved += save_view(folder, pair, view)
        if not pair.scored:
            continue
        rgb, labels = truth.rgb(pair.time, pair.camera).to(device), truth.labels(pair.time, pair.camera)
        labels = None if labels is None else labels.to(device)
        copied = judge.render(judge.copying, truth, pair)
        ours, copying = (judge.score(v, truth, pair, rgb, labels) for v in (view, copied))
        groups = (seen.color_group(pair.time, pair.camera), seen.label_group(pair.time, pair.camera))
        images.append(ImageResult(pair.time, pair.camera, *groups, ours, copying))
        if pair in shown:
            rows.append(to_device(OverviewRow(pair, rgb, labels, to_device(view, "cpu")), "cpu"))
    rows, images, saved = gather_parts(rows), gather_parts(images), gather_parts(saved)
    if rank() == 0:
        drop_views(folder, set(saved))
        save_overview(folder / "overview.png", rows, scene.label_map)
    return make_scene_result(scene, seen, images, judge.protocol, of=len(truth.pairs(with_unscored=False)))


def write_result(
    folder: Path, protocol: EvaluationProtocol, results: list[SceneResult], every: int, about: dict[str, Any]
) -> EvaluationResult:
    """Average over scenes, write metrics.json and table.txt; `about` holds `evaluated`, `saved_views` and `notes`."""
    means = {name: mean_over_scenes([result.groups[name] for result in results]) for name in protocol.groups}
    intervals = {name: group_intervals([result.images for result in results], name) for name in protocol.groups}
    table = format_table(protocol, results, means, intervals, about["notes"])
    images, known = sum(len(result.images) for result in results), sum(result.of for result in results)
    content = {
        "protocol": protocol.to_json(),
        "subset": {"every": every, "images": images, "of": known},
        **about,
        "mean": means,
        "mean_intervals": {name: intervals_to_json(found) for name, found in intervals.items()},
        "scenes": {result.scene.name: result.to_json() for result in results},
    }
    if rank() == 0:
        write_json(folder / "metrics.json", content)
        write_text(folder / "table.txt", table + "\n")
    return EvaluationResult(protocol, results, means, intervals, folder, table)


def unfinished(evaluated: Mapping[str, Any]) -> list[str]:
    """A sentence on a checkpoint of a run that had not ended, if it is one."""
    step, steps = evaluated.get("step", 0), evaluated.get("steps", 0)
    return [f"{evaluated['checkpoint']}: step {step} of {steps}, the run is unfinished."] if step < steps else []


def make_notes(judge: Judge, results: list[SceneResult], every: int, motion_known: bool) -> list[str]:
    """Sentences on what was left out. `motion_known`: a scene holds truth of the scene motion."""
    protocol, reason = judge.protocol, judge.lpips.reason
    notes = [f"LPIPS is not computed: {reason}."] if reason else []
    if every > 1:
        evaluated, known = sum(len(result.images) for result in results), sum(result.of for result in results)
        notes.append(f"A subset, one in {every} views of other cameras: {evaluated} of {known} images.")
    if protocol.flow_error and all(image.ours.metrics["flow_epe"] is None for r in results for image in r.images):
        why = "what is judged renders no scene motion" if motion_known else "the scenes hold no truth of the scene motion"
        notes.append(f"The end-point error is not computed: {why}.")
    for result in results:
        name, head = result.scene.name, result.groups[protocol.headline]
        if head is None:
            notes.append(f"{name} has no held-out images: all frames were trained on, no other camera has truth.")
        elif not head.labelled_images:
            notes.append(f"{name} has no held-out labels to be judged by.")
    return notes


def scoring_device(device: torch.device) -> torch.device:
    """Where metrics are computed: on `device`, but on the CPU for Apple GPUs, which lack float64."""
    return torch.device("cpu") if device.type == "mps" else device
