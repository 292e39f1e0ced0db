"""Synthetic dynamic scenes with exact truth, by ray casting."""

from semflow.data.synthetic.maker import DEMO, make_demo_scene, make_scene
from semflow.data.synthetic.scene import NoiseSpec

__all__ = ["DEMO", "NoiseSpec", "make_demo_scene", "make_scene"]
