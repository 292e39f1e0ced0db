"""Evaluation protocols: which images are judged, and by what. Named and versioned.

A change of any value or rule here that changes a figure is a new version: figures of one version can be compared with
each other.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass

from semflow.metrics.contours import BOUNDARY_SHARE, CONTOUR_SHARE
from semflow.metrics.image import PSNR_CAP, SSIM_SIGMA, SSIM_WINDOW
from semflow.metrics.statistics import CONFIDENCE, RESAMPLES, SEED
from semflow.utils.errors import ConfigError

ALL, HELD_OUT, TRAINING = "all", "held_out", "training"
GROUP_NAMES = {ALL: "all views", HELD_OUT: "held-out", TRAINING: "training views"}

GROUP_RULES = {
    ALL: "every image (time t, camera c) that has truth",
    HELD_OUT: "c != t, and for labels only times without training labels, unless all times have them; "
    "in a scene without multi-view truth: t without training labels (for colour: t without training colour)",
    TRAINING: "c == t (for labels: t with training labels; for colour: t with training colour)",
}


@dataclass(frozen=True)
class EvaluationProtocol:
    """Every choice of an evaluation.

    Attributes:
        name: as asked for on the command line.
        version: name and number; changes with any choice.
        groups: groups of images that are shown apart, the one that counts first.
        scene_metrics: mIoU from one confusion matrix per scene and group, boundary IoU, J and F of foreground classes.
        flow_error: end-point error of the scene motion to the next time, on what moves, where truth for it is given.
        psnr_cap: PSNR of identical images, in dB.
        ssim_window: width of the Gaussian window of SSIM, in pixels.
        ssim_sigma: its standard deviation, in pixels.
        boundary_share: width of the band of boundary IoU, share of the image diagonal.
        contour_share: tolerance of F, share of the image diagonal.
        images: how rendered colours are prepared.
        image_miou: the mean IoU of an image.
        foreground: the foreground mode.
        means: the order of averaging.
        objects: what J and F are averaged over.
        copying: the prediction that stands in brackets.
        classes: the figures per class.
        distances: the figures by distance in time.
        intervals: how sure the means are.
    """

    name: str
    version: str
    groups: tuple[str, ...]
    scene_metrics: bool
    flow_error: bool
    psnr_cap: float = PSNR_CAP
    ssim_window: int = SSIM_WINDOW
    ssim_sigma: float = SSIM_SIGMA
    boundary_share: float = BOUNDARY_SHARE
    contour_share: float = CONTOUR_SHARE
    images: str = "at the size of the frames, clamped to [0, 1], not quantised; SSIM over windows inside the image"
    image_miou: str = "mean IoU over the classes present in truth or prediction of the image; class 0 is counted"
    foreground: str = (
        "every class that foreground_object.txt does not list is merged into class 0 (where 0 is foreground: into the "
        "first that is not), in truth and prediction; the merged class is counted"
    )
    means: str = "over the images of a group, then over scenes; images without truth for a metric are left out"
    objects: str = "per foreground class over the images where truth or prediction shows it, then over the classes"
    copying: str = "the training frame of the same time, unmoved, with the labels of the nearest labelled frame"
    classes: str = "IoU and accuracy from one confusion matrix per scene and group; images: whose truth shows the class"
    distances: str = (
        "frames from t to the nearest labelled frame (colour: to the nearest frame whose colours were trained on), of all "
        "images that have truth, also of those in no group"
    )
    intervals: str = (
        f"{CONFIDENCE:.0%} percentile bootstrap over the images of a group, scene by scene, {RESAMPLES} resamples, "
        f"seed {SEED}"
    )

    @property
    def headline(self) -> str:
        """The group that counts."""
        return self.groups[0]

    def to_json(self) -> dict:
        """Every choice, with the rule of each group."""
        rules = {group: GROUP_RULES[group] for group in self.groups}
        return {**asdict(self), "groups": list(self.groups), "rules": rules}


PROTOCOLS = {
    "paper": EvaluationProtocol(
        "paper", "paper-1", groups=(ALL, HELD_OUT, TRAINING), scene_metrics=False, flow_error=False
    ),
    "corrected": EvaluationProtocol(
        "corrected", "corrected-1", groups=(HELD_OUT, TRAINING), scene_metrics=True, flow_error=True
    ),
}


def find_protocol(name: str) -> EvaluationProtocol:
    """The protocol of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"protocol = {name!r}: choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


@dataclass(frozen=True)
class SeenInTraining:
    """What training was allowed to see of a scene, and what there is to judge it by; frames are 0-based.

    Attributes:
        frames: number of frames.
        labelled: frames whose labels were used.
        colored: frames whose colours were used.
        color_views: there is colour truth of other cameras than that of the time.
        label_views: the same for labels.
    """

    frames: int
    labelled: Collection[int]
    colored: Collection[int]
    color_views: bool
    label_views: bool

    def color_group(self, time: int, camera: int) -> str | None:
        """HELD_OUT, TRAINING or neither (None): where the colours of an image count. See GROUP_RULES."""
        if camera != time:
            return HELD_OUT
        if time in self.colored:
            return TRAINING
        return None if self.color_views else HELD_OUT

    def label_group(self, time: int, camera: int) -> str | None:
        """HELD_OUT, TRAINING or neither (None): where the labels of an image count. See GROUP_RULES."""
        labelled = time in self.labelled
        if camera != time:
            every_time_labelled = len(self.labelled) == self.frames
            return None if labelled and not every_time_labelled else HELD_OUT
        if labelled:
            return TRAINING
        return None if self.label_views else HELD_OUT
