"""Scenes as the engine holds them, and as a checkpoint keeps them: a checkpoint alone is enough to render."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from semflow.config.schema import Config
from semflow.data.frame_lists import parse_frames
from semflow.data.loader import load_scene
from semflow.data.perturbations import perturbed
from semflow.data.supervision import Supervision, supervise
from semflow.fields.track_scene import SurfaceCues
from semflow.geometry.cameras import Cameras
from semflow.geometry.spaces import MetricSpace, NdcSpace, Space
from semflow.records import LabelMap, SceneData
from semflow.utils.errors import CheckpointError, DataError

OTHER_IMAGES = 0.02  # mean difference of colours; decoders of JPEG differ by far less


@dataclass(frozen=True)
class TrainingScene:
    """A scene with its targets."""

    data: SceneData
    supervision: Supervision


@dataclass(frozen=True)
class KeptScene:
    """What rendering needs of a scene.

    Attributes:
        name: folder name. rgb: (T, H, W, 3) in [0, 1]. cameras, space: geometry. label_map: classes.
        cues: surface cues or None.
    """

    name: str
    rgb: Tensor
    cameras: Cameras
    space: Space
    label_map: LabelMap
    cues: SurfaceCues | None


def load_training_scenes(config: Config, device: torch.device) -> list[TrainingScene]:
    """Read all scenes of the configuration, perturb them as it asks, and compute their targets.

    Raises:
        DataError: a scene is broken, or the scenes do not share one label map.
    """
    scenes = []
    for name in config.data.scenes:
        data = perturbed(load_scene(config.data, name), config.data, config.train.seed).to(device)
        colors = parse_frames(config.data.color_frames, data.frames, "data.color_frames")
        supervision = supervise(data, config.data.calibrate_depth, colors)
        scenes.append(TrainingScene(replace(data, space=supervision.space), supervision))
    first = scenes[0].data
    for scene in scenes[1:]:
        if scene.data.label_map.names != first.label_map.names:
            raise DataError(f"{scene.data.name}: its classes differ from those of {first.name}; "
                            "scenes of one model share one labelmap.txt")
    return scenes


def kept(scene: TrainingScene, with_cues: bool) -> KeptScene:
    """What rendering needs of a training scene."""
    data = scene.data
    cues = SurfaceCues(scene.supervision.surface_u, data.motion.float()) if with_cues else None
    return KeptScene(data.name, data.rgb, data.cameras, data.space, data.label_map, cues)


def require_same_scene(kept: KeptScene, scene: SceneData, root: str | Path, same_size: bool = False) -> None:
    """Refuse a scene on disk that is not the one that a checkpoint was trained on.

    Frames of another size can be rendered and judged, as long as they show the same part of the scene; a root without a
    labelmap.txt has no labels to judge by.

    Args:
        kept: of the checkpoint. scene: as it was read. root: the folder that it was read from holds it.
        same_size: frames of another size are refused too.

    Raises:
        DataError: other classes, another number of frames, or frames of another shape; names scene and difference.
    """
    was, now, names = kept.cameras, scene.cameras, scene.label_map.names
    size, old = (f"{cameras.width}x{cameras.height}" for cameras in (now, was))
    rounded = max(was.width, was.height, now.width, now.height)  # of a size that was reduced to whole pixels
    difference = ""
    if names and names != kept.label_map.names:
        difference = f"its classes are {', '.join(names)}, those of the checkpoint {', '.join(kept.label_map.names) or 'none'}"
    elif scene.frames != len(kept.rgb):
        difference = f"it has {scene.frames} frames, the checkpoint was trained on {len(kept.rgb)}"
    elif abs(was.width * now.height - now.width * was.height) > rounded or (same_size and size != old):
        difference = f"its frames are {size}, the checkpoint was trained on {old}"
    if difference:
        raise DataError(f"{Path(root) / scene.name}: not the scene {kept.name} of the run: {difference}; name the root of the "
                        "data that the run was trained on by --data_dir")


def scene_to_state(scene: KeptScene) -> dict:
    """Nested dictionary of a scene for `save_checkpoint`; colours that came from 8 bits are kept in 8 bits."""
    bytes_ = (scene.rgb * 255).round().byte()
    exact = bool(((bytes_.float() / 255 - scene.rgb).abs() < 1e-6).all())
    cues = None if scene.cues is None else {"surface_u": scene.cues.surface_u, "motion": scene.cues.motion.bool()}
    label_map = vars(scene.label_map) | {"names": list(scene.label_map.names)}
    return {
        "name": scene.name,
        "rgb": bytes_ if exact else scene.rgb,
        "cameras": dict(vars(scene.cameras)),
        "space": {"kind": "ndc" if isinstance(scene.space, NdcSpace) else "metric", "values": dict(vars(scene.space))},
        "label_map": label_map,
        "cues": cues,
    }


def check_same_scenes(path: Path, scenes: Sequence[KeptScene], states: Sequence[dict]) -> None:
    """Check that scenes are still those that a checkpoint keeps (`scene_to_state`), on the same device.

    Raises:
        CheckpointError: names the scene and what differs.
    """
    remedy = "bring back the data that the run was trained on, or start a new run by another --out"
    ours, theirs = [scene.name for scene in scenes], [state["name"] for state in states]
    if ours != theirs:
        raise CheckpointError(f"{path}: holds the scenes {', '.join(theirs)}, not {', '.join(ours)}; {remedy}")
    for scene, state in zip(scenes, states):
        check_same_classes(path, scene, state)
        kept_rgb = scene_from_state(state).rgb
        (ours, height, width, _), (theirs, kept_height, kept_width, _) = scene.rgb.shape, kept_rgb.shape
        found = "" if ours == theirs else f"{ours} frames, not {theirs}"
        if not found and (height, width) != (kept_height, kept_width):
            found = f"frames of {width}x{height}, not {kept_width}x{kept_height}"
        if not found and float((scene.rgb - kept_rgb).abs().mean()) > OTHER_IMAGES:
            found = "other images"
        if found:
            raise CheckpointError(f"{path}: scene {scene.name} has {found} as when this was written; {remedy}")


def check_same_classes(path: Path, scene: KeptScene, state: dict) -> None:
    """Check that the classes of a scene are those of a scene that a checkpoint keeps; CheckpointError names both."""
    ours, theirs = scene.label_map.names, tuple(state["label_map"]["names"])
    if ours != theirs:
        raise CheckpointError(
            f"{path}: its classes are {', '.join(theirs)}, those of scene {scene.name} are {', '.join(ours)}; "
            "use a labelmap.txt with the same classes in the same order")


def scene_from_state(state: dict) -> KeptScene:
    """Inverse of `scene_to_state`."""
    rgb = state["rgb"].float() / 255 if state["rgb"].dtype == torch.uint8 else state["rgb"]
    kind = NdcSpace if state["space"]["kind"] == "ndc" else MetricSpace
    label_map = {key: tuple(value) if isinstance(value, (list, tuple)) else value for key, value in state["label_map"].items()}
    cues = state["cues"]
    return KeptScene(
        name=state["name"],
        rgb=rgb,
        cameras=Cameras(**state["cameras"]),
        space=kind(**state["space"]["values"]),
        label_map=LabelMap(**label_map),
        cues=None if cues is None else SurfaceCues(cues["surface_u"], cues["motion"].float()),
    )
