"""Per-frame feature maps and clip code: what every encoder returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from semflow.records import to_device

DESCRIPTOR_CHANNELS = 40
_LUMINANCE = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class FrameFeatures:
    """Features of the T frames of a clip.

    A map covers its frame evenly, whatever its size: the centre of cell (row i, column j) lies at the pixel
    ((j + 0.5) * W / w, (i + 0.5) * H / h). No features at all are maps of shape (T, 1, 1, 0).

    Attributes:
        maps: (T, h, w, C) float32, contiguous (channels last, so that reading a pixel reads one run of memory).
        code: (Z,) float32 description of the whole clip, or (0,) where the encoder has none.
    """

    maps: Tensor
    code: Tensor

    @property
    def channels(self) -> int:
        return self.maps.shape[-1]

    def to(self, device: torch.device | str) -> FrameFeatures:
        """Copy with both tensors on `device`."""
        return to_device(self, device)


def check_frames(frames: Tensor) -> None:
    """Raise ValueError unless `frames` is a floating-point (T, 3, H, W) tensor with T >= 1."""
    if frames.dim() != 4 or frames.shape[0] < 1 or frames.shape[1] != 3 or not frames.is_floating_point():
        raise ValueError(f"frames must be float (T, 3, H, W) in [0, 1], got {tuple(frames.shape)} {frames.dtype}")


def luminance(frames: Tensor) -> Tensor:
    """Luminance (T, 1, H, W) in [0, 1] of frames (T, 3, H, W) in [0, 1]."""
    weights = frames.new_tensor(_LUMINANCE).view(1, 3, 1, 1)
    return (frames * weights).sum(dim=1, keepdim=True)


@torch.no_grad()
def clip_descriptor(frames: Tensor) -> Tensor:
    """A cheap clip code that tells scenes apart where there is no clip network: no weights, no gradient.

    Five channels (RGB, horizontal and vertical luminance edges) are averaged over the four quarters of the
    image; their mean over the frames, and their standard deviation over the frames, make 2 x 5 x 4 values.
    The value depends on which frames are given: hand over all frames of the scene, always.

    Args:
        frames: (T, 3, H, W) in [0, 1].

    Returns:
        (40,) float32 of order one.
    """
    check_frames(frames)
    light = luminance(frames)
    across = F.pad((light[..., :, 1:] - light[..., :, :-1]).abs(), (0, 1))  # (T, 1, H, W)
    down = F.pad((light[..., 1:, :] - light[..., :-1, :]).abs(), (0, 0, 0, 1))
    # Edges are an order of magnitude weaker than colours: bring both to order one.
    channels = torch.cat([(frames - 0.45) / 0.25, across / 0.05, down / 0.05], dim=1)  # (T, 5, H, W)
    pooled = F.adaptive_avg_pool2d(channels, 2).flatten(1)  # (T, 20)
    return torch.cat([pooled.mean(dim=0), pooled.std(dim=0, correction=0) / 0.1]).float()
