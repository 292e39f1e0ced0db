"""The interface between whatever renders a scene and whoever asks for pictures."""

from __future__ import annotations

from typing import Protocol

from semflow.geometry.cameras import Cameras
from semflow.records import View


class ViewRenderer(Protocol):
    """Renders whole images of named scenes."""

    def render(self, scene: str, cameras: Cameras, camera: int, time: float, what: frozenset[str]) -> View:
        """Render one image.

        Args:
            scene: name of the scene.
            cameras: any cameras in the world of the scene; their size is the size of the image.
            camera: index into `cameras`.
            time: float frame index in [0, T-1].
            what: subset of {"rgb", "semantic", "depth", "flow", "entropy", "dynamic", "static"}.

        Returns:
            View with at least the quantities asked for.
        """
