"""How good tracks are: against true tracks where there are any, and as masks carried through time; beside 2-D ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from semflow.data.synthetic.tracks import TrackTruth
from semflow.engine.evaluator import scoring_device
from semflow.engine.label_propagation import given_flow
from semflow.geometry.triangulation import follow
from semflow.metrics.contours import object_scores
from semflow.metrics.motion import WITHIN, TrackError, track_error
from semflow.records import SceneData, to_device
from semflow.tasks.tracking import Tracker

Followed = tuple[Tensor, Tensor]  # uv (P, T, 2), visible (P, T)
Follow = Callable[[int, Tensor], Followed]  # start time, uv (P, 2) there
NO_CLASS = -2  # neither a class nor "no label"
POINTS = ("all", "moving")


def followed_by_model(tracker: Tracker) -> Follow:
    """Tracks by the model, watched by the camera of each time."""

    def follow_points(start: int, uv: Tensor) -> Followed:
        tracks = tracker.track(start, uv)
        return tracks.uv, tracks.visible

    return follow_points


def followed_by_flow(scene: SceneData) -> Follow:
    """Tracks along the chain of given optical flows; visible as long as the flow is consistent forward and backward.

    A track goes on where it is not: it may be lost only for a while.
    """

    def follow_points(start: int, uv: Tensor) -> Followed:
        places, visible = {start: uv}, {start: scene.cameras.inside(uv)}
        for step in (-1, 1):
            flow, usable = given_flow(scene, step)
            for there, moved, alive in follow(start, step, scene.frames, scene.cameras, flow, usable, uv):
                places[there], visible[there] = moved, alive
        return tuple(torch.stack([parts[t] for t in range(scene.frames)], 1) for parts in (places, visible))

    return follow_points


def unmoved(scene: SceneData) -> Follow:
    """Points that stay in place in the image, always visible."""
    return lambda start, uv: (
        uv[:, None].expand(-1, scene.frames, -1), torch.ones(len(uv), scene.frames, dtype=torch.bool, device=uv.device))


@dataclass(frozen=True)
class PointScore:
    """Points against true tracks, at the times when they can be seen, the start left out.

    Attributes:
        error: over all of them. by_time: mean error per time, None at the start and where nothing is visible.
        visibility: share of points and times whose visibility is right.
    """

    error: TrackError
    by_time: list[float | None]
    visibility: float


def score_points(followed: Followed, truth: TrackTruth, start: int, chosen: Tensor) -> PointScore:
    """Score the tracks of the chosen ones (N,) bool among all pixels of a frame; everything on one device."""
    uv, visible = followed
    times = torch.arange(uv.shape[1], device=uv.device) != start
    counted = truth.visible & chosen[:, None] & times
    by_time = [track_error(uv[:, t], truth.uv[:, t], counted[:, t]).mean for t in range(uv.shape[1])]
    right = (visible == truth.visible)[chosen][:, times]
    return PointScore(track_error(uv, truth.uv, counted), by_time, float(right.double().mean()))


def rasterised(uv: Tensor, height: int, width: int) -> Tensor:
    """(H, W) bool mask of the pixels that points uv (P, 2) fall into, gaps of a pixel or two between them closed."""
    mask = torch.zeros(height, width, dtype=torch.bool)
    inside = (uv >= 0).all(-1) & (uv[:, 0] < width) & (uv[:, 1] < height)
    x, y = uv[inside].long().cpu().unbind(-1)
    mask[y, x] = True
    closed = cv2.morphologyEx(mask.numpy().astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    return torch.from_numpy(closed > 0)


def score_masks(follow_points: Follow, truth: Tensor, start: int, classes: Sequence[int]) -> dict[int, dict[str, float]]:
    """J and F of each class's mask of frame `start`, carried to every later frame; mean over the frames.

    Args:
        truth: (T, H, W) labels; frames without any are left out.
    """
    height, width = truth.shape[1:]
    found = {}
    for identity in classes:
        pixels = (truth[start] == identity).nonzero().flip(1) + 0.5
        if not len(pixels):
            continue
        uv, visible = follow_points(start, pixels)
        scores = []
        for time in range(start + 1, len(truth)):
            mask = rasterised(uv[:, time][visible[:, time]], height, width).to(truth.device)
            if (truth[time] >= 0).any():
                predicted = torch.where(mask, identity, NO_CLASS)
                scores += object_scores(truth[time], predicted, [identity]).values()
        if scores:
            region, contour = (sum(getattr(s, name) for s in scores) / len(scores) for name in ("region", "contour"))
            found[identity] = {"j": region, "f": contour, "j_and_f": (region + contour) / 2}
    return found


def score_tracks(
    tracker: Tracker, scene: SceneData, labels: Tensor, start: int, truth: TrackTruth | None
) -> dict[str, dict]:
    """Scores of the model, of chained optical flow and of not moving at all, as JSON can hold them.

    Args:
        tracker: watched by the camera of each time. scene: what was given to training, on the tracker's device.
        labels: (T, H, W) true labels, there too. start: frame whose pixels and masks are followed.
        truth: true tracks of its pixels, on any device, or None.

    Returns:
        name -> {"points": all or moving -> `PointScore`, or {} without truth; "masks": class name -> j, f, j_and_f}.
    """
    names, foreground = scene.label_map.names, scene.label_map.foreground
    device, scores = scoring_device(labels.device), {}
    truth = None if truth is None else to_device(truth, device)
    for name, way in (("ours", followed_by_model(tracker)), ("flow", followed_by_flow(scene)), ("unmoved", unmoved(scene))):
        masks = score_masks(way, labels, start, foreground)
        points = {}
        if truth is not None:
            followed = tuple(part.to(device) for part in way(start, scene.cameras.pixels().flatten(0, 1)))
            chosen = dict(zip(POINTS, (truth.hit, truth.hit & truth.moving)))
            points = {key: asdict(score_points(followed, truth, start, mask)) for key, mask in chosen.items()}
        scores[name] = {"points": points, "masks": {names[identity]: value for identity, value in masks.items()}}
    return scores


def format_scores(scores: dict[str, dict]) -> str:
    """The scores as fixed-width text."""
    titles = ["points", "by", "mean px", "median", *(f"<= {pixels} px" for pixels in WITHIN), "visibility"]
    rows = [titles] if any(score["points"] for score in scores.values()) else []
    for key in POINTS if rows else ():
        for name, score in scores.items():
            point = score["points"][key]
            error = point["error"]
            values = [error["mean"], error["median"], *error["within"].values(), point["visibility"]]
            rows.append([key, name, *("-" if value is None else f"{value:.3f}" for value in values)])
    masks = [["mask", "by", "J", "F", "J&F"]]
    for name, score in scores.items():
        masks += [[key, name, *(f"{value:.3f}" for value in mask.values())] for key, mask in score["masks"].items()]
        if score["masks"]:
            means = [sum(mask[k] for mask in score["masks"].values()) / len(score["masks"]) for k in ("j", "f", "j_and_f")]
            masks.append(["mean", name, *(f"{value:.3f}" for value in means)])
    return "\n".join("  ".join(cell.ljust(10) for cell in row).rstrip() for row in [*rows, *masks])
