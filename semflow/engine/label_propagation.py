"""Labels of the labelled frames carried to all frames by the given optical flow, without any field."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from semflow.encoders.sampling import read_nearest
from semflow.engine.copying import labelled_frames
from semflow.geometry.triangulation import follow
from semflow.records import SceneData


def propagate_labels(scene: SceneData) -> Tensor:
    """(T, H, W) labels of every frame from those of the labelled frames; -1 everywhere where no frame has any.

    Every pixel is followed along the chain of flows to the nearest labelled frame before or after it (of two equally near
    ones the earlier), and takes the label of the pixel it ends in. A chain ends early where the flow is not consistent
    forward and backward. Then, in this order, a pixel takes
        the label found by its chain to the nearest labelled frame on the other side,
        what was found in the frame where its chain ended, at the place where it ended,
        the label of the nearest pixel that has one and agrees with it in the motion mask. Pixels that read theirs at
        an outline are not asked: by rounding it may be of the wrong side, and would spread over the hole beside it.
    A labelled frame keeps its labels; pixels of it without a label are filled by the last rule.
    """
    labelled = labelled_frames(scene.labels)
    found = torch.full_like(scene.labels, -1)
    if not labelled:
        return found
    for frame in sorted(range(scene.frames), key=lambda frame: distance(frame, labelled)):
        motion = scene.motion[frame]
        labels, certain = scene.labels[frame], torch.ones_like(motion)
        if frame not in labelled:
            labels, certain = (part.view_as(motion) for part in carried_labels(scene, found, frame, labelled))
        found[frame] = fill_by_nearest(labels, motion, certain)
    return found


def distance(frame: int, labelled: tuple[int, ...]) -> int:
    """Frames to the nearest labelled one."""
    return min(abs(frame - other) for other in labelled)


def sources(frame: int, labelled: tuple[int, ...]) -> list[int]:
    """The nearest labelled frame before and the nearest after an unlabelled one, the nearer first."""
    before, after = [other for other in labelled if other < frame], [other for other in labelled if other > frame]
    return sorted(before[-1:] + after[:1], key=lambda other: (abs(frame - other), other))


def carried_labels(scene: SceneData, found: Tensor, frame: int, labelled: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Labels (N,) of an unlabelled frame's pixels along their chains, -1 where none is known, and (N,) whether they are
    certain: read away from outlines. Rules as in `propagate_labels`.

    Args:
        found: (T, H, W) labels of the frames that are nearer to a labelled one.
    """
    reads = [labels_along_chain(scene, found, frame, source) for source in sources(frame, labelled)]
    # what is left of a chain that ended is only known on the way to the nearest labelled frame
    ordered = [at_end for at_end, _ in reads] + [reads[0][1]]
    labels, certain = ordered[0]
    for more_labels, more_certain in ordered[1:]:
        labels, certain = torch.where(labels < 0, more_labels, labels), torch.where(labels < 0, more_certain, certain)
    return labels, certain


Reading = tuple[Tensor, Tensor]  # labels (N,), -1 where nothing is read, and (N,) whether they are certain


def labels_along_chain(scene: SceneData, found: Tensor, frame: int, source: int) -> tuple[Reading, Reading]:
    """What the frame's pixels read where their chains reach `source`, and where they end on the way."""
    step = 1 if source > frame else -1
    flow, usable = given_flow(scene, step)
    here, uv = frame, scene.cameras.pixels().flatten(0, 1)
    alive = torch.ones(len(uv), dtype=torch.bool, device=uv.device)
    labels, certain = torch.full_like(alive, -1, dtype=torch.int64), ~alive
    for there, moved, kept in follow(frame, step, abs(source - frame), scene.cameras, flow, usable):
        ended = alive & ~kept
        labels = torch.where(ended, read_nearest(found[here], uv), labels)
        certain = torch.where(ended, read_nearest(inside_outlines(found[here]), uv), certain)
        here, uv, alive = there, moved, kept
    at_end = torch.where(alive, read_nearest(found[source], uv), -1)
    return (at_end, read_nearest(inside_outlines(found[source]), uv)), (labels, certain)


def inside_outlines(labels: Tensor) -> Tensor:
    """(H, W) bool: pixels of (H, W) labels whose eight neighbours have the same label."""
    values = labels[None].float()
    return (max_pool2d(values, 3, 1, 1) == -max_pool2d(-values, 3, 1, 1))[0]


def given_flow(scene: SceneData, step: int) -> tuple[Tensor, Tensor]:
    """The given flow (T, H, W, 2) and where it is consistent (T, H, W), forward (step = 1) or backward (-1)."""
    if step > 0:
        return scene.flow_forward, scene.flow_forward_valid
    return scene.flow_backward, scene.flow_backward_valid


def fill_by_nearest(labels: Tensor, motion: Tensor, certain: Tensor) -> Tensor:
    """Labels (H, W) with each -1 replaced by the label of the nearest certain pixel with the same value of the mask.

    Args:
        labels: (H, W) int64. motion: (H, W) bool. certain: (H, W) bool; where no such pixel is certain, any with a label
            is taken.
    """
    known = (labels >= 0).cpu().numpy()
    if known.all() or not known.any():
        return labels
    values, moving, sure = labels.cpu().numpy(), motion.cpu().numpy(), certain.cpu().numpy() & known
    filled = values.copy()
    for side in (moving, ~moving):
        usable = sure & side
        nearest = nearest_values(values, usable if usable.any() else known)
        filled = np.where(side & ~known, nearest, filled)
    return torch.from_numpy(filled).to(labels.device)


def nearest_values(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """At every pixel, the value (H, W, ...) of the nearest pixel of the mask `known` (H, W), which is not empty."""
    _, places = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL)
    place_of = np.zeros(places.max() + 1, dtype=np.int64)
    place_of[places[known]] = np.flatnonzero(known)
    return values.reshape(known.size, *values.shape[2:])[place_of[places]]
