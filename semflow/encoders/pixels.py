"""Analytic features of every pixel: colour, band-passed colour and gradients. No weights, nothing to train."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from semflow.encoders.features import DESCRIPTOR_CHANNELS, FrameFeatures, check_frames, clip_descriptor, luminance
from semflow.encoders.frozen import FrozenEncoder

_SIGMAS = (1.0, 2.0, 4.0, 8.0)
_GRADIENT_SIGMAS = (1.0, 4.0)
# Typical deviations in photographs with values in [0, 1], measured on two (a landscape, a flower) at 320x213.
_BAND_STD = (0.042, 0.026, 0.029, 0.035)
_GRADIENT_STD = (0.025, 0.010)


class PixelEncoder(FrozenEncoder):
    """24 channels at full size, of about unit variance in photographs.

    Channels: 0-2 RGB; 3-14 four bands of RGB, between blurs of sigma 0, 1, 2, 4, 8 pixels; 15-17 RGB blurred
    by 8; then for sigma 1 and 4 the blurred luminance's gradient across, down, and its magnitude (18-20, 21-23).
    The direction of an edge lies in the pair of gradients.
    """

    channels = 24
    code_channels = DESCRIPTOR_CHANNELS

    def description(self) -> str:
        """One sentence: which weights are in use."""
        return f"analytic pixel features (colour, bands, gradients), no weights, {self.channels} channels"

    @torch.no_grad()
    def forward(self, frames: Tensor) -> FrameFeatures:
        """Maps (T, H, W, 24) and the clip descriptor (40,) of frames (T, 3, H, W) in [0, 1]."""
        check_frames(frames)
        maps = torch.cat([self._channels(frame[None]) for frame in frames])
        return FrameFeatures(maps, clip_descriptor(frames))

    def _channels(self, frame: Tensor) -> Tensor:
        """(1, H, W, 24) of one frame (1, 3, H, W); frame by frame, so that the temporaries stay small."""
        levels = [frame]
        for sigma, previous in zip(_SIGMAS, (0.0, *_SIGMAS)):
            levels.append(blur(levels[-1], (sigma**2 - previous**2) ** 0.5))  # variances of Gaussians add up
        bands = [(fine - coarse) / std for fine, coarse, std in zip(levels, levels[1:], _BAND_STD)]
        channels = [standardise(frame), *bands, standardise(levels[-1])]
        for sigma, std in zip(_GRADIENT_SIGMAS, _GRADIENT_STD):
            light = luminance(levels[1 + _SIGMAS.index(sigma)])
            channels.append(gradient(light) / std)
        return torch.cat(channels, dim=1).permute(0, 2, 3, 1).contiguous()


def standardise(rgb: Tensor) -> Tensor:
    """Colours in [0, 1] brought to about zero mean and unit variance."""
    return (rgb - 0.45) / 0.25


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (B, C, H, W), `sigma` in pixels, the border repeated; constants stay as they are."""
    radius = int(3 * sigma + 1)
    offsets = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(image.shape[1], 1, 1, -1)
    across = F.conv2d(F.pad(image, (radius, radius, 0, 0), mode="replicate"), kernel, groups=image.shape[1])
    padded = F.pad(across, (0, 0, radius, radius), mode="replicate")
    return F.conv2d(padded, kernel.transpose(2, 3), groups=image.shape[1])


def gradient(light: Tensor) -> Tensor:
    """Central differences across and down, and their magnitude: (B, 3, H, W) of (B, 1, H, W), per pixel."""
    wide = F.pad(light, (1, 1, 1, 1), mode="replicate")
    across = (wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2]) / 2
    down = (wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1]) / 2
    return torch.cat([across, down, torch.hypot(across, down)], dim=1)
