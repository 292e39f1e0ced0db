"""Losses by topic; importing the package registers every term."""

from semflow.losses import blending, depth, flow, photometric, planes, semantic  # noqa: F401  (registration)
from semflow.losses.base import LossSet, LossTerm

__all__ = ["LossSet", "LossTerm"]
