"""A small convolutional encoder that is trained together with the field."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semflow.encoders.features import DESCRIPTOR_CHANNELS, FrameFeatures, check_frames, clip_descriptor
from semflow.encoders.frozen import seeded


class JointEncoder(nn.Module):
    """A light U-Net with two downsamplings: full-resolution maps, receptive field of about 30 pixels.

    It has no normalisation layers, so that a frame's features never depend on the other frames of the batch,
    and a training step may encode just the frames it reads. The last three channels are the raw RGB.

    Args:
        channels: C of the maps, RGB included; at least 4.
        seed: of the initialisation.
    """

    trainable = True
    code_channels = DESCRIPTOR_CHANNELS

    def __init__(self, channels: int = 32, seed: int = 0):
        super().__init__()
        if channels < 4:
            raise ValueError(f"channels = {channels}: must be at least 4 (three of them are the RGB)")
        self.channels, self.seed = channels, seed
        with seeded(seed):
            self.fine = nn.Conv2d(3, 16, 3, padding=1)
            self.middle = nn.Conv2d(16, 32, 3, padding=1)
            self.coarse = nn.Sequential(
                nn.Conv2d(32, 48, 3, padding=1), nn.ReLU(), nn.Conv2d(48, 48, 3, padding=1), nn.ReLU())
            self.lift = nn.Conv2d(48, 32, 1)
            self.fuse = nn.Conv2d(32, 32, 3, padding=1)
            self.coarse_out = nn.Conv2d(32, channels - 3, 1)
            self.fine_out = nn.Conv2d(16, channels - 3, 1, bias=False)
            self._initialise()
        self.to(memory_format=torch.channels_last)

    def _initialise(self) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        for layer in (self.coarse_out, self.fine_out, self.lift):
            layer.weight.data.mul_(0.5)  # two paths are added: keep the sum near unit variance

    def description(self) -> str:
        """One sentence: which weights are in use."""
        return (f"small convolutional encoder trained jointly with the field, random initialisation "
                f"(seed {self.seed}), {self.channels} channels")

    def encode(self, frames: Tensor) -> Tensor:
        """Maps (B, H, W, C), channels-last contiguous, of any frames (B, 3, H, W) in [0, 1], with gradients."""
        rgb = frames.contiguous(memory_format=torch.channels_last)
        fine = F.relu(self.fine((rgb - 0.45) / 0.25))  # (B, 16, H, W)
        half = F.relu(self.middle(F.avg_pool2d(fine, 2, ceil_mode=True)))  # (B, 32, H/2, W/2)
        quarter = self.coarse(F.avg_pool2d(half, 2, ceil_mode=True))  # (B, 48, H/4, W/4)
        half = F.relu(self.fuse(half + _upsample(self.lift(quarter), half)))
        learned = _upsample(self.coarse_out(half), fine) + self.fine_out(fine)  # (B, C - 3, H, W)
        return torch.cat([learned.permute(0, 2, 3, 1), rgb.permute(0, 2, 3, 1)], dim=-1).contiguous()

    def forward(self, frames: Tensor) -> FrameFeatures:
        """Encode frames.

        Args:
            frames: (T, 3, H, W) in [0, 1].

        Returns:
            maps (T, H, W, C) with gradients, the last three channels the RGB; code (40,): the analytic
            `clip_descriptor` of the given frames, without gradient. Where only some frames of a scene are
            encoded, take the maps from `encode` and keep the code of the whole clip.
        """
        check_frames(frames)
        return FrameFeatures(self.encode(frames), clip_descriptor(frames))


def _upsample(coarse: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(coarse, size=like.shape[-2:], mode="bilinear", align_corners=False)
