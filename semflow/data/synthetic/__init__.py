"""Synthetic dynamic scenes with exact truth, by ray casting."""

from semflow.data.synthetic.maker import DEMO, DEMO_SCENES, make_missing_scenes, make_scene
from semflow.data.synthetic.scene import NoiseSpec

__all__ = ["DEMO", "DEMO_SCENES", "NoiseSpec", "make_missing_scenes", "make_scene"]
