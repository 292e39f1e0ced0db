"""A scene folder from nothing but a video: cameras, optical flow, motion masks and inverse depth."""

from semflow.data.prepare.scene import PrepareSettings, prepare_scene

__all__ = ["PrepareSettings", "prepare_scene"]
