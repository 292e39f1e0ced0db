"""Optical flow between two frames: where it agrees with the flow back."""

from __future__ import annotations

import torch
from torch import Tensor

from semflow.geometry.cameras import pixel_centres
from semflow.geometry.triangulation import read_image

RELATIVE, ABSOLUTE = 0.01, 0.5  # of the squared lengths, and squared pixels (Sundaram, Brox, Keutzer 2010, eq. 5)


def consistent(flow: Tensor, back: Tensor) -> Tensor:
    """Where following a flow and then the flow back returns to the pixel, within a tenth of its length.

    Args:
        flow: (H, W, 2) pixels from a frame to another. back: (H, W, 2) from that one to this.

    Returns:
        (H, W) bool; False where the flow leaves the image.
    """
    height, width, _ = flow.shape
    there = pixel_centres(height, width, flow.device) + flow
    inside = ((there >= 0) & (there <= torch.tensor([width, height]).to(flow))).all(-1)
    returned = read_image(back, there.flatten(0, 1)).view_as(flow)
    length = flow.square().sum(-1) + returned.square().sum(-1)
    return inside & ((flow + returned).square().sum(-1) < RELATIVE * length + ABSOLUTE)
