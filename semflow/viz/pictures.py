"""The pictures that can be asked for by name, and how each is drawn from a rendered view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from semflow.records import LabelMap, View
from semflow.utils.errors import ConfigError
from semflow.viz.colors import color_depth, color_entropy, color_labels, color_rgb
from semflow.viz.flow_wheel import color_flow
from semflow.viz.panels import overlay

# picture -> what the renderer has to compute for it
PICTURES = {
    "rgb": ("rgb",),
    "semantic": ("semantic",),
    "overlay": ("rgb", "semantic"),
    "depth": ("depth",),
    "flow": ("flow",),
    "entropy": ("entropy",),
    "dynamic": ("dynamic",),
    "static": ("static",),
}


def parse_pictures(text: str) -> tuple[str, ...]:
    """Names from a comma-separated list, in its order, each once.

    Raises:
        ConfigError: an unknown name, or none at all.
    """
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [name for name in names if name not in PICTURES]
    if unknown or not names:
        problem = f"{unknown[0]!r} is not a picture" if unknown else "names no picture"
        raise ConfigError(f"what = {text!r}: {problem}; choose from {', '.join(PICTURES)}")
    return names


def renderer_needs(names: tuple[str, ...]) -> frozenset[str]:
    """What the renderer has to compute for the named pictures."""
    return frozenset(need for name in names for need in PICTURES[name])


@dataclass(frozen=True)
class Palette:
    """Colour scales shared by all views of a scene, so that a video does not flicker.

    Attributes:
        label_map: the classes and their colours.
        near: depth drawn as nearest, world units.
        far: depth drawn as farthest, world units.
        flow_scale: flow drawn fully saturated, pixels.
    """

    label_map: LabelMap
    near: float
    far: float
    flow_scale: float = 1.0

    def draw(self, name: str, view: View) -> np.ndarray:
        """The picture `name` of PICTURES as (H, W, 3) uint8.

        Raises:
            ConfigError: the view does not hold what the picture needs.
        """
        if name == "rgb":
            return color_rgb(_held(view.rgb, name))
        if name == "semantic":
            return color_labels(_held(view.logits, name).argmax(dim=-1), self.label_map)
        if name == "overlay":
            labels = color_labels(_held(view.logits, name).argmax(dim=-1), self.label_map)
            return overlay(color_rgb(_held(view.rgb, name)), labels)
        if name == "depth":
            return color_depth(_held(view.depth, name), self.near, self.far)
        if name == "flow":
            return color_flow(_held(view.flow, name), self.flow_scale)
        if name == "entropy":
            return color_entropy(_held(view.entropy, name), len(self.label_map))
        return color_rgb(_held(view.dynamic_rgb if name == "dynamic" else view.static_rgb, name))


def _held(value: Tensor | None, name: str) -> Tensor:
    if value is None:
        raise ConfigError(f"what = {name}: the model of this run does not render it; leave it out")
    return value
