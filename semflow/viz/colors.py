"""From quantities to colours: every function returns an (H, W, 3) uint8 RGB array."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from torch import Tensor

from semflow.records import LabelMap

NO_LABEL = (128, 128, 128)  # colour of pixels without a label
NO_VALUE = (0, 0, 0)  # colour of pixels whose value is not finite


def color_rgb(rgb: Tensor) -> np.ndarray:
    """Colours (H, W, 3) in [0, 1] as 8-bit; values outside are clipped, values that are not finite are black."""
    values = np.nan_to_num(_numpy(rgb), nan=0.0, posinf=0.0, neginf=0.0)
    return (values.clip(0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def color_labels(labels: Tensor, label_map: LabelMap) -> np.ndarray:
    """Class ids (H, W) int64 in the colours of the label map; -1 (no label) is grey."""
    table = torch.cat([label_map.colors.cpu().to(torch.uint8), torch.tensor([NO_LABEL], dtype=torch.uint8)])
    return table[labels.detach().cpu()].numpy()


def color_scalar(values: Tensor, low: float, high: float, colormap: int = cv2.COLORMAP_TURBO) -> np.ndarray:
    """Values (H, W), `low` to `high`, through one of OpenCV's colour maps; outside is clipped.

    A range without extent shows the colour map's first colour.
    """
    array = _numpy(values)
    finite = np.isfinite(array)
    span = high - low
    share = (np.where(finite, array, low) - low) / span if span > 0 else np.zeros_like(array)
    index = (share.clip(0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    image = np.ascontiguousarray(cv2.applyColorMap(index, colormap)[..., ::-1])
    image[~finite] = NO_VALUE
    return image


def color_depth(depth: Tensor, near: float, far: float) -> np.ndarray:
    """Depth (H, W) in world units, coloured by inverse depth from `far` (blue) to `near` (red)."""
    return color_scalar(1.0 / depth.clamp(min=1e-6), 1.0 / far, 1.0 / near)


def color_disparity(disparity: Tensor) -> np.ndarray:
    """Inverse depth (H, W) of unknown scale and shift, coloured between its own 2nd and 98th percentile."""
    return color_scalar(disparity, *_range(disparity))


def color_entropy(entropy: Tensor, classes: int) -> np.ndarray:
    """Entropy (H, W) in nats from 0 (black) to its maximum for `classes` classes (yellow)."""
    return color_scalar(entropy, 0.0, math.log(max(classes, 2)), cv2.COLORMAP_INFERNO)


def color_share(share: Tensor) -> np.ndarray:
    """A share or mask (H, W) in [0, 1] as grey."""
    return np.repeat(color_rgb(share)[..., None], 3, axis=-1)


def _range(values: Tensor) -> tuple[float, float]:
    """2nd and 98th percentile of the finite values."""
    array = _numpy(values)
    array = array[np.isfinite(array)]
    return tuple(float(x) for x in np.percentile(array, (2, 98))) if array.size else (0.0, 0.0)


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()
