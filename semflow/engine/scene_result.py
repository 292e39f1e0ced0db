"""What an evaluation found in a scene: its images, groups of them, bins by distance in time, and intervals."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass

from semflow.engine.protocols import EvaluationProtocol, SeenInTraining
from semflow.engine.scores import (
    COLOR_METRICS,
    LABEL_METRICS,
    Group,
    ImageResult,
    color_images,
    label_images,
    make_group,
    score_group,
)
from semflow.metrics.statistics import Interval, stratified_interval
from semflow.records import SceneData

OWN_CAMERA, OTHER_CAMERAS = "own_camera", "other_cameras"

Distances = dict[str, dict[int, Group]]  # OWN_CAMERA, OTHER_CAMERAS -> distance in frames -> scores
Intervals = dict[str, dict[str, "Interval | None"]]  # "ours", "copying", "difference" -> metric of images -> interval


@dataclass(frozen=True)
class SceneResult:
    """Scores of one scene.

    Attributes:
        scene: the scene.
        seen: what training saw of it.
        images: every scored image, camera by camera.
        groups: group name -> scores; None where no image belongs to the group.
        distances: scores of all images, in a group or not, by distance to what training saw; see `by_distance`.
        intervals: group name -> intervals of the means over the group's images; see `group_intervals`.
        of: number of images that have truth, evaluated or not.
    """

    scene: SceneData
    seen: SeenInTraining
    images: list[ImageResult]
    groups: dict[str, Group | None]
    distances: Distances
    intervals: dict[str, Intervals]
    of: int

    def to_json(self) -> dict:
        """See the text of the module `evaluator`."""
        label_map = self.scene.label_map
        return {
            "labelled_frames": list(self.seen.labelled),
            "color_frames": list(self.seen.colored),
            "foreground": [label_map.names[identity] for identity in label_map.listed_foreground],
            "groups": {name: None if group is None else group.to_json() for name, group in self.groups.items()},
            "distances": {
                views: [{"distance": distance, **group.counts_and_metrics()} for distance, group in bins.items()]
                for views, bins in self.distances.items()
            },
            "intervals": {name: intervals_to_json(found) for name, found in self.intervals.items()},
            "images": [
                {**vars(image), "ours": image.ours.metrics, "copying": image.copying.metrics} for image in self.images
            ],
        }


def make_scene_result(
    scene: SceneData, seen: SeenInTraining, images: list[ImageResult], protocol: EvaluationProtocol, of: int
) -> SceneResult:
    """Everything that follows from the scored images of a scene; `of` images have truth."""
    return SceneResult(
        scene, seen, images,
        groups={name: make_group(images, name, scene.label_map, protocol) for name in protocol.groups},
        distances=by_distance(scene, seen, images, protocol),
        intervals={name: group_intervals([images], name) for name in protocol.groups},
        of=of,
    )


def by_distance(
    scene: SceneData, seen: SeenInTraining, images: Sequence[ImageResult], protocol: EvaluationProtocol
) -> Distances:
    """Scores by the distance of an image's time to the nearest frame that training saw, 0 = a frame that it saw.

    For labels that is the nearest labelled frame, for colours (and the optical flow) the nearest one whose colours were
    trained on. Images of the time's own camera (c == t) and of others stand apart; groups play no part, so that times
    with training labels are seen from other cameras, too. Bins without images are left out.
    """
    chosen = {
        OWN_CAMERA: [image for image in images if image.camera == image.time],
        OTHER_CAMERAS: [image for image in images if image.camera != image.time],
    }
    found: Distances = {}
    for views, members in chosen.items():
        colors = [nearest(image.time, seen.colored) for image in members]
        labels = [nearest(image.time, seen.labelled) if image.labelled else None for image in members]
        found[views] = {
            distance: score_group(
                [image for image, away in zip(members, colors) if away == distance],
                [image for image, away in zip(members, labels) if away == distance],
                scene.label_map, protocol,
            )
            for distance in sorted({*colors, *labels} - {None})
        }
    return found


def nearest(time: int, frames: Collection[int]) -> int | None:
    """Distance of a time to the nearest of the frames; None without frames."""
    return min((abs(time - frame) for frame in frames), default=None)


def group_intervals(scenes: Sequence[Sequence[ImageResult]], name: str) -> Intervals:
    """95 % bootstrap intervals of the mean over a group's images, then over scenes, of every metric of images.

    Args:
        scenes: the images of each scene; resampled scene by scene.
        name: group.

    Returns:
        Of the model, of copying, and of their difference (ours - copying) over the images that have both.
    """

    def intervals(value_of: Callable[[ImageResult, str], float | None]) -> dict[str, Interval | None]:
        found = {}
        for keys, choose in ((COLOR_METRICS, color_images), (LABEL_METRICS, label_images)):
            members = [choose(images, name) for images in scenes]
            for key in keys:
                values = [[value_of(image, key) for image in images] for images in members]
                found[key] = stratified_interval([[v for v in scene if v is not None] for scene in values])
        return found

    return {
        "ours": intervals(lambda image, key: image.ours.metrics.get(key)),
        "copying": intervals(lambda image, key: image.copying.metrics.get(key)),
        "difference": intervals(_difference),
    }


def _difference(image: ImageResult, key: str) -> float | None:
    ours, copying = image.ours.metrics.get(key), image.copying.metrics.get(key)
    return None if ours is None or copying is None else ours - copying


def intervals_to_json(intervals: Intervals) -> dict:
    """Plain numbers; metrics of which nothing is known are null."""
    return {
        who: {key: None if interval is None else asdict(interval) for key, interval in found.items()}
        for who, found in intervals.items()
    }
