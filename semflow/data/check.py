"""Checking data: every problem of every scene in one pass, by the readers that load them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from semflow.config.schema import DataConfig
from semflow.data.images import describe, read_image, read_rgb, require_aspect
from semflow.data.label_map import read_labels
from semflow.data.layout import IMAGES, IMAGES_FOLDER, FrameFiles, is_scene, list_folder, scene_names
from semflow.data.loader import SceneParts, read_frames, read_parts
from semflow.data.problems import Collector, Problem


@dataclass(frozen=True)
class SceneReport:
    """Outcome of the check of one scene.

    Attributes:
        name: scene folder.
        problems: all problems, in the order of reading.
        summary: one line on a scene without problems, else empty.
    """

    name: str
    problems: tuple[Problem, ...]
    summary: str


def check_scenes(
    config_or_root: DataConfig | str | Path, scenes: Iterable[str] | None = None
) -> tuple[list[Problem], list[SceneReport]]:
    """Problems of the root itself, and a report per scene.

    Args:
        config_or_root: a configuration, whose factor and frame lists are followed, or a data root.
        scenes: scene folders; None = those of the configuration, or all that the root holds.

    Raises:
        ConfigError: the configuration itself is wrong.
    """
    if isinstance(config_or_root, DataConfig):
        config, names = config_or_root, list(scenes or config_or_root.scenes)
    else:
        config, names = DataConfig(dir=str(config_or_root)), list(scenes or ())
    root = Path(config.dir)
    if not root.is_dir():
        return [Problem(root, "no such folder", "name the folder that holds labelmap.txt and one folder per scene")], []
    names = names or scene_names(root)
    if not names:
        remedy = (
            f"name the folder above it and --scene {root.resolve().name}"
            if is_scene(root)
            else "put each scene into a folder of its own there"
        )
        return [Problem(root, "holds no scene folder", remedy)], []
    return [], [check_scene(config, name) for name in names]


def check_scene(config: DataConfig, name: str) -> SceneReport:
    """Read every file of a scene: all that loading needs, all other image sizes, all truth."""
    collector = Collector()
    parts = read_parts(config, name, collector)
    if parts is None:
        return SceneReport(name, tuple(collector.problems), "")
    _check_other_images(parts, config, collector)
    _check_truth(parts, collector)
    return SceneReport(name, tuple(collector.problems), "" if collector.problems else summarise(parts))


def _check_other_images(parts: SceneParts, config: DataConfig, collector: Collector) -> None:
    """The image folders that loading at this factor leaves closed."""
    for folder in sorted(parts.paths.scene.iterdir()):
        if not folder.is_dir() or not IMAGES_FOLDER.fullmatch(folder.name) or folder == parts.frames.folder:
            continue
        files = collector(list_folder, folder, IMAGES)
        if files is not None:
            _, size = read_frames(FrameFiles(folder, parts.frames.stems, files, reduce=1), collector)
            if size is not None and parts.size is not None:
                collector(require_aspect, folder, size, parts.size)


def _check_truth(parts: SceneParts, collector: Collector) -> None:
    if parts.truth is None:
        return
    for path in parts.truth.rgb.values():
        collector(read_rgb, path, parts.size)
    for path in (parts.truth.labels or {}).values():
        if parts.label_map is None:
            collector(read_image, path)
        else:
            collector(read_labels, path, parts.label_map, parts.size)


def summarise(parts: SceneParts) -> str:
    """One line: frames, size, classes, labelled frames, truth."""
    truth = "no" if parts.truth is None else "colour" if parts.truth.labels is None else "colour and labels"
    classes = parts.label_map
    foreground = ", ".join(classes.names[i] for i in classes.foreground) or "none"
    count, folder = len(parts.frames.stems), parts.frames.folder.name
    return (
        f"{parts.paths.name}: {count} frames of {describe(parts.size)} from {folder}, {len(classes)} classes "
        f"(may move: {foreground}), {len(parts.labels)} labelled frames, multi-view truth: {truth}"
    )
