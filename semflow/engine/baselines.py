"""2-D baselines that use no field, by name: they see what training sees and are judged like a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from semflow.engine.copying import CopyingRenderer
from semflow.engine.depth_warping import DepthWarpingRenderer
from semflow.engine.label_propagation import propagate_labels
from semflow.records import SceneData
from semflow.rendering.view_renderer import ViewRenderer
from semflow.utils.errors import ConfigError

BASELINES = {
    "copying": "2-D: the frame of the time, unmoved, with the labels of the nearest labelled frame",
    "flow": "2-D: the frame of the time, unmoved, with labels carried to it by optical flow",
    "depth": "2-D: the frame of the time with labels carried to it by optical flow, warped into other cameras by its depth",
}


def build_baseline(name: str, scenes: Mapping[str, SceneData]) -> ViewRenderer:
    """The renderer of a baseline.

    Args:
        name: see BASELINES.
        scenes: name -> scene with the labels that training was given.

    Raises:
        ConfigError: there is no baseline of this name.
    """
    if name not in BASELINES:
        raise ConfigError(f"baseline = {name!r}: choose one of {', '.join(BASELINES)}")
    if name == "copying":
        return CopyingRenderer(scenes)
    carried = {key: replace(scene, labels=propagate_labels(scene)) for key, scene in scenes.items()}
    return CopyingRenderer(carried) if name == "flow" else DepthWarpingRenderer(carried)
