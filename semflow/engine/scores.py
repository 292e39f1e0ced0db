"""Scores of an image, of a group of a scene's images, and of several scenes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from semflow.engine.protocols import ALL, EvaluationProtocol
from semflow.metrics.contours import ObjectScore, boundary_iou, object_scores
from semflow.metrics.image import Lpips, psnr, ssim
from semflow.metrics.motion import end_point_error
from semflow.metrics.segmentation import (
    background_id,
    class_accuracy,
    class_iou,
    class_mean,
    class_recall,
    confusion_matrix,
    mean_iou,
    merge_background,
    total_accuracy,
)
from semflow.records import LabelMap, View

Metrics = dict[str, "float | None"]

COLOR_METRICS = ("psnr", "ssim", "lpips", "flow_epe")
LABEL_METRICS = (
    "miou", "miou_foreground", "accuracy", "accuracy_foreground", "class_accuracy", "class_accuracy_foreground",
    "boundary_iou", "boundary_iou_foreground",
)
SCENE_METRICS = ("scene_miou", "scene_miou_foreground", "scene_miou_foreground_classes", "j", "f", "j_and_f")


@dataclass(frozen=True)
class ImageScores:
    """One prediction of one image.

    Attributes:
        metrics: COLOR_METRICS and LABEL_METRICS; None where there is no truth or the protocol leaves it out.
        confusion: (K, K) pixels, all classes, on the CPU; None without label truth.
        confusion_foreground: (K, K) pixels with the background merged.
        objects: J and F of the foreground classes shown by truth or prediction.
    """

    metrics: Metrics
    confusion: Tensor | None = None
    confusion_foreground: Tensor | None = None
    objects: dict[int, ObjectScore] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageResult:
    """One image: where it counts, and the scores of the model and of copying."""

    time: int
    camera: int
    color_group: str | None
    label_group: str | None
    ours: ImageScores
    copying: ImageScores

    @property
    def labelled(self) -> bool:
        """Whether there are label truth and a prediction to be judged by it."""
        return self.ours.confusion is not None


@dataclass(frozen=True)
class ClassScore:
    """One class over the images of a group.

    Attributes:
        iou: from the confusion matrix of all images; None for a class in neither truth nor prediction.
        accuracy: share of the class's true pixels that were found; None for a class that the truth does not show.
        images: number of images whose truth shows the class.
    """

    iou: float | None
    accuracy: float | None
    images: int


@dataclass(frozen=True)
class GroupScores:
    """One prediction over a group of images of one scene.

    Attributes:
        metrics: COLOR_METRICS, LABEL_METRICS (means over images) and SCENE_METRICS.
        classes: class name -> its scores; empty without labels.
        objects: foreground class name -> {"j", "f", "images"}.
    """

    metrics: Metrics
    classes: dict[str, ClassScore]
    objects: dict[str, dict[str, float]]

    def to_json(self) -> dict:
        """Metrics with what they consist of."""
        classes = {name: asdict(score) for name, score in self.classes.items()}
        return {**self.metrics, "classes": classes, "objects": self.objects}


@dataclass(frozen=True)
class Group:
    """A group of images of one scene: how many count for colours and for labels, and both predictions' scores."""

    images: int
    labelled_images: int
    ours: GroupScores
    copying: GroupScores

    def to_json(self) -> dict:
        """Counts and scores."""
        return {**self.counts_and_metrics(), "ours": self.ours.to_json(), "copying": self.copying.to_json()}

    def counts_and_metrics(self) -> dict:
        """The same without classes and objects."""
        counts = {"images": self.images, "labelled_images": self.labelled_images}
        return {**counts, "ours": self.ours.metrics, "copying": self.copying.metrics}


def score_colors(view: View, truth: Tensor, protocol: EvaluationProtocol, lpips: Lpips) -> Metrics:
    """PSNR, SSIM and, where it is at hand, LPIPS of a view against truth (H, W, 3)."""
    rgb = view.rgb.clamp(0.0, 1.0)
    large_enough = min(truth.shape[:2]) >= protocol.ssim_window
    return {
        "psnr": psnr(rgb, truth, protocol.psnr_cap),
        "ssim": ssim(rgb, truth, protocol.ssim_window, protocol.ssim_sigma) if large_enough else None,
        "lpips": lpips.distance(rgb, truth) if lpips.distance is not None else None,
    }


def score_flow(view: View, truth: tuple[Tensor, Tensor] | None) -> Metrics:
    """End-point error against (flow (H, W, 2), valid (H, W)); None without truth or prediction."""
    known = truth is not None and view.flow is not None
    return {"flow_epe": end_point_error(view.flow, *truth) if known else None}


def score_labels(labels: Tensor, truth: Tensor, label_map: LabelMap, protocol: EvaluationProtocol) -> ImageScores:
    """Every label metric of a label map (H, W) against truth (H, W)."""
    classes, foreground = len(label_map), label_map.listed_foreground
    background = background_id(classes, foreground)
    confusion = confusion_matrix(truth, labels, classes).cpu()
    merged = confusion_matrix(*(merge_background(ids, foreground, background) for ids in (truth, labels)), classes).cpu()
    metrics: Metrics = {
        "miou": mean_iou(confusion),
        "miou_foreground": mean_iou(merged),
        "accuracy": total_accuracy(confusion),
        "accuracy_foreground": total_accuracy(merged),
        "class_accuracy": class_accuracy(confusion),
        "class_accuracy_foreground": class_accuracy(merged),
    }
    if not protocol.scene_metrics:
        return ImageScores(metrics, confusion, merged)
    boundary = boundary_iou(truth, labels, classes, protocol.boundary_share)
    metrics["boundary_iou"] = class_mean(boundary)
    metrics["boundary_iou_foreground"] = class_mean(boundary, foreground)
    return ImageScores(metrics, confusion, merged, object_scores(truth, labels, foreground, protocol.contour_share))


def make_group(
    images: Sequence[ImageResult], name: str, label_map: LabelMap, protocol: EvaluationProtocol
) -> Group | None:
    """Scores of the images of a group; None where none belongs to it."""
    return score_group(color_images(images, name), label_images(images, name), label_map, protocol)


def color_images(images: Sequence[ImageResult], name: str) -> list[ImageResult]:
    """The images whose colours count in a group."""
    return [image for image in images if name in (ALL, image.color_group)]


def label_images(images: Sequence[ImageResult], name: str) -> list[ImageResult]:
    """The images whose labels count in a group."""
    return [image for image in images if name in (ALL, image.label_group) and image.labelled]


def score_group(
    colored: Sequence[ImageResult], labelled: Sequence[ImageResult], label_map: LabelMap, protocol: EvaluationProtocol
) -> Group | None:
    """Scores of the images that count for colours and of those that count for labels; None where there is neither."""
    if not colored and not labelled:
        return None
    ours, copying = (
        group_scores([of(image) for image in colored], [of(image) for image in labelled], label_map, protocol)
        for of in (lambda image: image.ours, lambda image: image.copying)
    )
    return Group(len(colored), len(labelled), ours, copying)


def group_scores(
    colored: Sequence[ImageScores], labelled: Sequence[ImageScores], label_map: LabelMap, protocol: EvaluationProtocol
) -> GroupScores:
    """Means over the images that count for colours and for labels, and what comes from one matrix per scene."""
    metrics = {key: mean(image.metrics.get(key) for image in colored) for key in COLOR_METRICS}
    metrics |= {key: mean(image.metrics.get(key) for image in labelled) for key in LABEL_METRICS}
    metrics |= dict.fromkeys(SCENE_METRICS)
    known = [image for image in labelled if image.confusion is not None]
    classes = class_scores(known, label_map)
    if not known or not protocol.scene_metrics:
        return GroupScores(metrics, classes, {})
    confusion = sum(image.confusion for image in known)
    objects = {
        label_map.names[identity]: scores
        for identity in label_map.listed_foreground
        if (scores := object_mean([image.objects[identity] for image in known if identity in image.objects]))
    }
    metrics["scene_miou"] = mean_iou(confusion)
    metrics["scene_miou_foreground"] = mean_iou(sum(image.confusion_foreground for image in known))
    metrics["scene_miou_foreground_classes"] = mean_iou(confusion, label_map.listed_foreground)
    metrics["j"] = mean(scores["j"] for scores in objects.values())
    metrics["f"] = mean(scores["f"] for scores in objects.values())
    metrics["j_and_f"] = mean([metrics["j"], metrics["f"]])
    return GroupScores(metrics, classes, objects)


def class_scores(images: Sequence[ImageScores], label_map: LabelMap) -> dict[str, ClassScore]:
    """IoU and accuracy of every class from one confusion matrix of all images; empty without images."""
    if not images:
        return {}
    confusions = torch.stack([image.confusion for image in images])
    total, shown = confusions.sum(0), (confusions.sum(2) > 0).sum(0)
    ious, recalls = (
        [None if math.isnan(value) else value for value in values.tolist()]
        for values in (class_iou(total), class_recall(total))
    )
    return {name: ClassScore(*scores) for name, *scores in zip(label_map.names, ious, recalls, shown.tolist())}


def object_mean(scores: Sequence[ObjectScore]) -> dict[str, float]:
    """Mean J and F of one object over images; empty without images."""
    if not scores:
        return {}
    return {"j": mean(s.region for s in scores), "f": mean(s.contour for s in scores), "images": len(scores)}


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are known; None where none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def mean_over_scenes(groups: Sequence[Group | None]) -> dict[str, Metrics]:
    """Mean over scenes of every metric of one group, for "ours" and "copying"; scenes without the group left out."""
    known = [group for group in groups if group is not None]
    keys = (*COLOR_METRICS, *LABEL_METRICS, *SCENE_METRICS)
    return {
        who: {key: mean(getattr(group, who).metrics[key] for group in known) for key in keys}
        for who in ("ours", "copying")
    }
