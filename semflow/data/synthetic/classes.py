"""The classes of all synthetic scenes: one fixed list, so that several scenes share a model."""

from __future__ import annotations

CLASSES: dict[str, tuple[int, int, int]] = {
    "background": (0, 0, 0),
    "wall": (120, 100, 160),
    "floor": (150, 120, 70),
    "picture": (235, 205, 40),
    "shelf": (95, 65, 55),
    "globe": (50, 160, 200),
    "balloon": (240, 90, 40),
    "ball": (60, 200, 90),
    "crate": (40, 60, 200),
    "flag": (220, 60, 190),
}
MOVING = ("balloon", "ball", "crate", "flag")
CLASS_IDS = {name: number for number, name in enumerate(CLASSES)}
