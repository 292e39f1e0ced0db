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


def read_rows(rows: Tensor, uv: Tensor, height: int, width: int) -> Tensor:
    """Read a channels-last map without gradients; faster than `read_map` for maps that are not trained.

    Args:
        rows: (h, w, C) contiguous. uv, height, width: as in `read_map`.

    Returns:
        (N, C) features.
    """
    h, w, channels = rows.shape
    x = (uv[:, 0] * (w / width) - 0.5).clamp(0, w - 1)
    y = (uv[:, 1] * (h / height) - 0.5).clamp(0, h - 1)
    left, top = x.floor().long().clamp(max=max(w - 2, 0)), y.floor().long().clamp(max=max(h - 2, 0))
    right, bottom = (left + 1).clamp(max=w - 1), (top + 1).clamp(max=h - 1)
    fx, fy = x - left, y - top
    index = torch.stack([top * w + left, top * w + right, bottom * w + left, bottom * w + right], dim=1)
    weight = torch.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy], dim=1)
    return F.embedding_bag(index, rows.view(-1, channels), per_sample_weights=weight.to(rows.dtype), mode="sum")


def read_nearest(image: Tensor, uv: Tensor) -> Tensor:
    """Value of the pixel (h, w, ...) that uv (N, 2), in pixels of that image, falls into; clamped at the border."""
    x = uv[:, 0].long().clamp(0, image.shape[1] - 1)
    y = uv[:, 1].long().clamp(0, image.shape[0] - 1)
    return image[y, x]
