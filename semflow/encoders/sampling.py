"""Bilinear reading of feature maps at pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def read_map(feature_map: Tensor, uv: Tensor, height: int, width: int) -> Tensor:
    """Read a map at pixels of the image it belongs to; the map may have another resolution.

    Args:
        feature_map: (C, h, w), covering the same field of view as the image.
        uv: (N, 2) pixels of an image of `height` x `width`, centres at half-integers. Pixels outside are read
            at the border; masking them is the caller's business.

    Returns:
        (N, C) features.
    """
    scale = torch.tensor([2.0 / width, 2.0 / height], device=uv.device)
    grid = (uv * scale - 1).clamp(-2.0, 2.0)[None, None]  # (1, 1, N, 2); far outside is as good as outside
    read = F.grid_sample(feature_map[None], grid, padding_mode="border", align_corners=False)
    return read[0, :, 0].T
