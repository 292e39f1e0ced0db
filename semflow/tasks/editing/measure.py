"""Edits measured against a synthetic scene that is made once more without an object, or with it elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from semflow.data.loader import load_scene
from semflow.data.synthetic import NoiseSpec, make_scene
from semflow.engine.evaluator import scoring_device
from semflow.engine.loading import LoadedRun
from semflow.geometry.poses import scaled_vector
from semflow.metrics.image import psnr
from semflow.records import SceneData, to_device
from semflow.records import View as RenderedView
from semflow.rendering.view_renderer import ViewRenderer
from semflow.tasks.editing.edit_file import Edit, checked_edit
from semflow.tasks.editing.edited import edited_run
from semflow.tasks.editing.selection import Scenery
from semflow.utils.errors import DataError
from semflow.viz.colors import color_rgb

WIDENED = 4  # pixels around what an object covers, in which an edit may change the picture
View = tuple[int, int]  # time, camera


@dataclass(frozen=True)
class Case:
    """An edit and the truth of it.

    Attributes:
        kind: class of the object. edit: what is done. truth: the scene as it should look. name: of the truth's folder.
    """

    kind: str
    edit: Edit
    truth: SceneData
    name: str


@dataclass(frozen=True)
class EditScores:
    """How well edits agree with the truth, over all views.

    Attributes:
        inside: PSNR of the edited views in the masks, where the object was or should be. unedited: of the unedited views
            there. reached: PSNR of the unedited views outside, what the run reaches where nothing is edited.
        changed: largest difference, in 1/255, between edited and unedited views outside of the widened masks.
        changed_share: share of the pixels outside that differ by more than 1/255.
        pixels: in the masks, per view. overlap: intersection over union of the object's rendered and true mask, over all
            views; None where it should not be seen.
    """

    inside: float
    unedited: float
    reached: float
    changed: float
    changed_share: float
    pixels: float
    overlap: float | None


def removal(root: Path, scene: str, loaded: LoadedRun, kind: str) -> Case:
    """The case of a removed object; its truth is made below the data root unless it is there."""
    name = f"{scene}_without_{kind}"
    truth = true_scene(root, scene, loaded, name, without=(kind,))
    return Case(kind, checked_edit({"do": "remove", "what": kind}, name), truth, name)


def displacement(root: Path, scene: str, loaded: LoadedRun, kind: str, vector: Sequence[float]) -> Case:
    """The case of an object displaced by a vector in the units of the scene's poses_bounds.npy."""
    name = f"{scene}_{kind}_at_" + "_".join(f"{value:g}" for value in vector)
    truth = true_scene(root, scene, loaded, name, shift={kind: tuple(vector)})
    by = scaled_vector(np.load(root / scene / "poses_bounds.npy"), np.array(vector))
    return Case(kind, checked_edit({"do": "move", "what": kind, "by": by.tolist()}, name), truth, name)


def true_scene(root: Path, scene: str, loaded: LoadedRun, name: str, **changes) -> SceneData:
    """The scene `name`: a synthetic scene with changes, see `make_scene`; made unless it is there.

    Raises:
        DataError: the scene is not a synthetic one.
    """
    description = root / scene / "scene.json"
    if not description.is_file():
        raise DataError(f"{description}: no such file; edits are measured on scenes of semflow make-scene")
    if not (root / name / "scene.json").is_file():
        spec = json.loads(description.read_text(encoding="utf-8"))["spec"]
        same = {key: spec[key] for key in ("seed", "frames", "height", "width")}
        make_scene(root, name, objects=tuple(spec["objects"]), noise=NoiseSpec(**spec["noise"]), **same, **changes)
    return load_scene(replace(loaded.config.data, dir=str(root)), name)


def views_of(frames: int) -> list[View]:
    """Every time, from its own training camera and from the one half the clip away, camera by camera."""
    found = [(time, time) for time in range(frames)] + [(time, (time + frames // 2) % frames) for time in range(frames)]
    return sorted(found, key=lambda view: (view[1], view[0]))


def measure(loaded: LoadedRun, scenery: Scenery, original: SceneData, case: Case, views: Sequence[View]
            ) -> tuple[EditScores, list[list[np.ndarray]]]:
    """Scores of an edit, and pictures per view: unedited, edited, truth; the original is on the device of the run."""
    edited = edited_run(loaded, scenery, [case.edit]).renderer
    label = original.label_map.names.index(case.kind)
    parts, pictures = {"inside": [], "unedited": [], "outside": []}, []
    differences, counts, both, either = [], [], 0, 0
    for time, camera in views:
        before, after = (rendered(renderer, scenery.scene, original, time, camera) for renderer in (loaded.renderer, edited))
        truth, was, should = true_view(original, case, time, camera, before.rgb.device)
        mask, touched = was | should, widened(was | should | (before.labels == label) | (after.labels == label))
        parts["inside"].append(torch.stack([after.rgb[mask], truth[mask]]))
        parts["unedited"].append(torch.stack([before.rgb[mask], truth[mask]]))
        parts["outside"].append(torch.stack([before.rgb[~touched], truth[~touched]]))
        differences.append(255 * (after.rgb - before.rgb)[~touched].abs().amax(-1))
        counts.append(int(mask.sum()))
        both += int(((after.labels == label) & should).sum())
        either += int(((after.labels == label) | should).sum())
        pictures.append([color_rgb(image) for image in (before.rgb, after.rgb, truth)])
    inside, unedited, reached = (psnr(*torch.cat(pairs, dim=1)) for pairs in parts.values())
    overlap = both / either if case.edit.do != "remove" else None
    difference = torch.cat(differences)
    scores = EditScores(inside, unedited, reached, float(difference.max()), float((difference > 1.0).float().mean()),
                        sum(counts) / len(counts), overlap)
    return scores, pictures


def rendered(renderer: ViewRenderer, name: str, scene: SceneData, time: int, camera: int) -> RenderedView:
    """Colours and classes of a view of the scene's cameras, brought to where they can be scored."""
    found = renderer.render(name, scene.cameras, camera, float(time), frozenset({"rgb", "semantic"}))
    return to_device(found, scoring_device(found.rgb.device))


def true_view(original: SceneData, case: Case, time: int, camera: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """(H, W, 3) colours of the truth, and the object's masks (H, W) in the original and in the truth, on a device."""
    label = original.label_map.names.index(case.kind)
    masks = (scene.truth.read_labels(time, camera) == label for scene in (original, case.truth))
    return tuple(part.to(device) for part in (case.truth.truth.read_rgb(time, camera), *masks))


def widened(mask: Tensor) -> Tensor:
    """(H, W) bool mask and what lies within WIDENED pixels of it."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * WIDENED + 1, 2 * WIDENED + 1))
    return torch.from_numpy(cv2.dilate(mask.cpu().numpy().astype(np.uint8), kernel) > 0).to(mask.device)
