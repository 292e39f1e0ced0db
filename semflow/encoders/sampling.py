"""Bilinear reading of feature maps at pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def read_map(feature_map: Tensor, uv: Tensor, height: int, width: int) -> Tensor:
    """Read a map at pixels of the image it belongs to; the map may have another resolution.

    A weighted sum of four rows of a channels-last map: for wide maps ten times as fast as `grid_sample`, forward and
    backward, on a CPU.

    Args:
        feature_map: (h, w, C) contiguous, covering the same field of view as the image.
        uv: (N, 2) pixels of an image of `height` x `width`, centres at half-integers. Pixels outside are read
            at the border; masking them is the caller's business.

    Returns:
        (N, C) features, with gradients to the map and to uv.
    """
    h, w, channels = feature_map.shape
    x = (uv[:, 0] * (w / width) - 0.5).clamp(0, w - 1)
    y = (uv[:, 1] * (h / height) - 0.5).clamp(0, h - 1)
    # pixels that are not finite give features that are not, so that the loss that suffers can be named
    left, top = x.floor().long().clamp(0, max(w - 2, 0)), y.floor().long().clamp(0, max(h - 2, 0))
    right, bottom = (left + 1).clamp(max=w - 1), (top + 1).clamp(max=h - 1)
    fx, fy = x - left, y - top
    index = torch.stack([top * w + left, top * w + right, bottom * w + left, bottom * w + right], dim=1)
    weight = torch.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy], dim=1)
    return F.embedding_bag(index, feature_map.view(-1, channels), per_sample_weights=weight.to(feature_map.dtype), mode="sum")


def read_nearest(image: Tensor, uv: Tensor) -> Tensor:
    """Value of the pixel (h, w, ...) that uv (N, 2), in pixels of that image, falls into; clamped at the border."""
    x = uv[:, 0].long().clamp(0, image.shape[1] - 1)
    y = uv[:, 1].long().clamp(0, image.shape[0] - 1)
    return image[y, x]
