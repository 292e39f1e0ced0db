"""Frames from a video or a folder of images: evenly spaced, the sharpest nearby, reduced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from semflow.data.images import Size, describe, read_image
from semflow.data.layout import IMAGES, list_folder
from semflow.utils.errors import DataError

DEFAULT_FRAMES = 24  # of a video; of a folder all are taken
NEARBY = 0.25  # of the distance between two frames: how far a sharper one is looked for
SHARPER = 1.2  # times as sharp as the nearest one must it be
SMOOTH_SIZE = 256  # width at which sharpness is judged


Reader = Callable[[set[int]], Iterator[tuple[int, np.ndarray]]]  # wanted indices -> these, with images (H, W, 3) uint8


@dataclass(frozen=True)
class Source:
    """A video or a folder.

    Attributes:
        times: of its frames: seconds, or positions in a folder. names: of its frames, for the record. read: its frames.
    """

    times: Sequence[float]
    names: list[str]
    read: Reader


@dataclass(frozen=True)
class Frames:
    """What is taken of a source.

    Attributes:
        images: T arrays (H, W, 3) uint8, in the order of time. sources: T names of what they were, for the record.
        available: number of frames of the source. full_width: of its frames, in pixels.
    """

    images: list[np.ndarray]
    sources: tuple[str, ...]
    available: int
    full_width: int


def read_frames(source: Path, count: int | None = None, start: float = 0.0, end: float | None = None,
                height: int | None = None) -> Frames:
    """Frames of a video file, or of a folder of images in the order of their names.

    Args:
        count: how many; None: 24 of a video, all of a folder.
        start, end: seconds of a video; positions in a folder, the first is 0.
        height: larger frames are reduced to it.

    Raises:
        DataError: no such source, nothing readable in it, fewer than two frames, or images of several sizes.
    """
    if not source.exists():
        raise DataError(f"{source}: no such file or folder; give a video, or a folder of frames")
    found = of_folder(source) if source.is_dir() else of_video(source)
    inside = [i for i, time in enumerate(found.times) if time >= start and (end is None or time <= end)]
    if len(inside) < max(2, count or 2):
        raise DataError(f"{source}: has {len(inside)} frames between start and end, {max(2, count or 2)} are wanted; move --start "
                        "and --end apart, or ask for fewer by --frames")
    count = count or (len(inside) if source.is_dir() else min(DEFAULT_FRAMES, len(inside)))
    sizes: set[Size] = set()
    chosen = sharpest(alike(found.read, source, height, sizes), candidates([found.times[i] for i in inside], inside, count))
    return Frames(list(chosen.values()), tuple(found.names[i] for i in chosen), len(found.times), sizes.pop()[1])


def alike(read: Reader, source: Path, height: int | None, sizes: set[Size]) -> Reader:
    """A reader of reduced frames, which notes in `sizes` how large they were; its DataError: they have several sizes."""

    def reading(wanted: set[int]) -> Iterator[tuple[int, np.ndarray]]:
        for index, image in read(wanted):
            sizes.add(image.shape[:2])
            if len(sizes) > 1:
                named = ", ".join(map(describe, sorted(sizes)))
                raise DataError(f"{source}: its frames have several sizes ({named}); give one video's")
            yield index, reduced(image, height)

    return reading


def candidates(times: Sequence[float], indices: Sequence[int], count: int) -> list[list[int]]:
    """For each of `count` evenly spaced times, the frames near it; the nearest one comes first."""
    wanted = np.linspace(times[0], times[-1], count)
    reach = NEARBY * (times[-1] - times[0]) / (count - 1)
    groups = []
    for time in wanted:
        distance = np.abs(np.asarray(times) - time)
        order = np.argsort(distance, kind="stable")
        groups.append([indices[i] for i in order if distance[i] <= reach] or [indices[order[0]]])
    return groups


def sharpest(read: Reader, groups: list[list[int]]) -> dict[int, np.ndarray]:
    """Index -> image of the sharpest of each group, in the order of the groups; one image of each is held at a time."""
    group_of = {index: number for number, group in enumerate(groups) for index in group}
    nearest = {group[0] for group in groups}
    best: dict[int, tuple[float, int, np.ndarray]] = {}
    for index, image in read(set(group_of)):
        number, sharp = group_of[index], sharpness(image) * (SHARPER if index in nearest else 1.0)
        if number not in best or sharp > best[number][0]:
            best[number] = (sharp, index, image)
    return {best[number][1]: best[number][2] for number in sorted(best)}


def sharpness(image: np.ndarray) -> float:
    """Variance of the Laplacian of an image (H, W, 3): smaller where it is blurred."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    size = (SMOOTH_SIZE, max(1, round(SMOOTH_SIZE * grey.shape[0] / grey.shape[1])))
    return float(cv2.Laplacian(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), cv2.CV_32F).var())


def reduced(image: np.ndarray, height: int | None) -> np.ndarray:
    """An image (h, w, 3) no higher than `height`; if it is reduced, of even width."""
    rows, columns = image.shape[:2]
    if height is None or rows <= height:
        return image
    return cv2.resize(image, (2 * round(columns * height / rows / 2), height), interpolation=cv2.INTER_AREA)


def of_folder(folder: Path) -> Source:
    """A folder's images; DataError where it has none."""
    files = list(list_folder(folder, IMAGES).values())
    if not files:
        raise DataError(f"{folder}: holds no png or jpg image; give a video, or a folder of frames")

    def read(wanted: set[int]) -> Iterator[tuple[int, np.ndarray]]:
        yield from ((index, read_image(path)) for index, path in enumerate(files) if index in wanted)

    return Source(range(len(files)), [path.name for path in files], read)


def of_video(path: Path) -> Source:
    """A video; DataError where it cannot be read. All frames are counted: what a file says of their number is often wrong."""
    times = [seconds for seconds, _ in tqdm(decoded(path), desc="Looking through the video", unit="frame")]
    if not times:
        raise DataError(f"{path}: cannot be read as a video; convert it, e.g. by ffmpeg -i {path.name} video.mp4")

    def read(wanted: set[int]) -> Iterator[tuple[int, np.ndarray]]:
        for index, (_, video) in enumerate(tqdm(decoded(path), desc="Taking frames", unit="frame", total=len(times))):
            if index in wanted:
                found, image = video.retrieve()
                if not found:
                    raise DataError(f"{path}: frame {index} cannot be decoded; cut it out by --start and --end")
                yield index, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    return Source(times, [f"{seconds:.3f} s" for seconds in times], read)


def decoded(path: Path) -> Iterator[tuple[float, cv2.VideoCapture]]:
    """The time of each frame of a video in seconds, with the video, which has it at hand.

    Times are those of the file; where they do not grow, frames are counted and the mean rate is taken.
    """
    video = cv2.VideoCapture(str(path))
    try:
        rate = video.get(cv2.CAP_PROP_FPS) or 30.0
        number, before = 0, -1.0
        while video.grab():
            seconds = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
            before = seconds if seconds > before else before + 1 / rate if number else 0.0
            yield before, video
            number += 1
    finally:
        video.release()
