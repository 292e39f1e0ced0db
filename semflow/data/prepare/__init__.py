"""A scene folder from nothing but a video: cameras, optical flow, motion masks and inverse depth."""

from semflow.data.prepare.scene import prepare_scene
from semflow.data.prepare.settings import PrepareSettings

__all__ = ["PrepareSettings", "prepare_scene"]
