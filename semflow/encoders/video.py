"""SlowOnly ResNet-50: features of every frame and a code of the whole clip.

The layers carry the names of OpenMMLab's network, so that its Kinetics-400 state dict loads by dropping the
prefix `backbone.`. Differences in use: no max-pool after conv1 (it has no weights), so that every stage is
twice as fine.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from semflow.encoders.features import FrameFeatures, check_frames
from semflow.encoders.frozen import (
    FrozenEncoder,
    measuring_norms,
    natural_clips,
    normalise_imagenet,
    resize_stage,
    seeded,
)
from semflow.encoders.weights import load_weights, read_state_dict

_PREFIX = "backbone."
_REMEDY = "set encoder.video_weights to OpenMMLab's SlowOnly-R50 state dict (.pth), or leave it empty"


class ConvNorm(nn.Module):
    """3-D convolution without bias, BatchNorm, and ReLU unless told otherwise; padding of half a kernel."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int, int], stride: int = 1, relu: bool = True):
        super().__init__()
        padding = tuple(length // 2 for length in kernel)
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride=(1, stride, stride), padding=padding, bias=False)
        self.bn = nn.BatchNorm3d(outputs)
        self.relu = relu

    def forward(self, clip: Tensor) -> Tensor:
        clip = self.bn(self.conv(clip))
        return clip.relu_() if self.relu else clip


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a shortcut; `temporal` widens the first convolution to three frames."""

    def __init__(self, inputs: int, width: int, stride: int, temporal: bool):
        super().__init__()
        outputs = 4 * width
        self.conv1 = ConvNorm(inputs, width, (3 if temporal else 1, 1, 1))
        self.conv2 = ConvNorm(width, width, (1, 3, 3), stride)
        self.conv3 = ConvNorm(width, outputs, (1, 1, 1), relu=False)
        project = stride != 1 or inputs != outputs
        self.downsample = ConvNorm(inputs, outputs, (1, 1, 1), stride, relu=False) if project else None

    def forward(self, clip: Tensor) -> Tensor:
        shortcut = clip if self.downsample is None else self.downsample(clip)
        return (self.conv3(self.conv2(self.conv1(clip))) + shortcut).relu_()


def _stage(blocks: int, inputs: int, width: int, stride: int, temporal: bool) -> nn.Sequential:
    first = Bottleneck(inputs, width, stride, temporal)
    return nn.Sequential(first, *(Bottleneck(4 * width, width, 1, temporal) for _ in range(blocks - 1)))


class SlowOnlyBackbone(nn.Module):
    """The network itself, split where its kernels begin to see several frames."""

    def __init__(self):
        super().__init__()
        self.conv1 = ConvNorm(3, 64, (1, 7, 7), stride=2)
        self.layer1 = _stage(3, 64, 64, 1, temporal=False)
        self.layer2 = _stage(4, 256, 128, 2, temporal=False)
        self.layer3 = _stage(6, 512, 256, 2, temporal=True)
        self.layer4 = _stage(3, 1024, 512, 2, temporal=True)

    def shallow(self, clip: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """conv1, layer1, layer2 of (B, 3, T, H, W): 64, 256, 512 channels at H/2, H/2, H/4; each frame by itself."""
        first = self.conv1(clip)
        second = self.layer1(first)
        return first, second, self.layer2(second)

    def deep(self, clip: Tensor) -> Tensor:
        """layer4 (B, 2048, T, H/16, W/16) of layer2's output (B, 512, T, H/4, W/4); frames see their neighbours."""
        return self.layer4(self.layer3(clip))


class SlowOnlyEncoder(FrozenEncoder):
    """Frozen SlowOnly-R50: 832-channel maps at half size and a 2048-d clip code.

    Args:
        weights: OpenMMLab state dict; empty = random initialisation, calibrated as `frozen` describes.
        seed: of the random initialisation.
        frames_per_chunk: frames that go through the per-frame layers together; bounds the memory (a 480x270
            frame needs about 0.2 GB).

    Raises:
        CheckpointError: the weight file is missing, unreadable, or of another network.
    """

    channels = 832
    code_channels = 2048
    _SLICES_STRIDES = ((slice(0, 64), 2), (slice(64, 320), 2), (slice(320, 832), 4))

    def __init__(self, weights: str | Path = "", seed: int = 0, frames_per_chunk: int = 1):
        super().__init__()
        self.weights, self.seed, self.frames_per_chunk = str(weights), seed, frames_per_chunk
        self.register_buffer("map_shift", torch.zeros(self.channels))
        self.register_buffer("map_scale", torch.ones(self.channels))
        self.register_buffer("code_shift", torch.zeros(self.code_channels))
        self.register_buffer("code_scale", torch.ones(self.code_channels))
        with seeded(seed):
            self.backbone = SlowOnlyBackbone()
            self.freeze()
            if weights:
                self._load(weights)
            else:
                self._calibrate()

    def _load(self, path: str | Path) -> None:
        state = {name.removeprefix("module."): value for name, value in read_state_dict(path, _REMEDY).items()}
        if any(name.startswith(_PREFIX) for name in state):  # else a bare backbone; heads are not ours to judge
            state = {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
        load_weights(self.backbone, state, path, original=lambda name: _PREFIX + name)

    @torch.no_grad()
    def _calibrate(self) -> None:
        clips = torch.stack([normalise_imagenet(clip) for clip in natural_clips(4, 4, 48)])
        clips = clips.transpose(1, 2)  # (B, 3, T, H, W)
        with measuring_norms(self.backbone):
            self.backbone.deep(self.backbone.shallow(clips)[-1])
        stages = self.backbone.shallow(clips)
        over = (0, 2, 3, 4)
        self.map_shift.copy_(torch.cat([stage.mean(over) for stage in stages]))
        self.map_scale.copy_(torch.cat([stage.std(over) for stage in stages]).clamp(min=1e-3))
        last = self.backbone.deep(stages[-1])
        self.code_shift.copy_(last.mean(over))
        self.code_scale.copy_(last.std(over).clamp(min=1e-3))

    def description(self) -> str:
        """One sentence: which weights are in use."""
        origin = f"weights from {self.weights}" if self.weights else f"random initialisation (seed {self.seed})"
        return f"SlowOnly-R50, {origin}, {self.channels} channels, frozen"

    @torch.no_grad()
    def forward(self, frames: Tensor) -> FrameFeatures:
        """Encode all frames of a scene as one clip.

        Args:
            frames: (T, 3, H, W) in [0, 1], any T >= 1.

        Returns:
            maps (T, ceil(H/2), ceil(W/2), 832): conv1, layer1, layer2, each a function of its frame alone;
            code (2048,): the last stage averaged over space and time.
        """
        check_frames(frames)
        height, width = frames.shape[-2:]
        maps = frames.new_empty(len(frames), (height + 1) // 2, (width + 1) // 2, self.channels)
        middle = []  # layer2 of each chunk, (1, 512, t, H/4, W/4)
        for chunk, part in zip(maps.split(self.frames_per_chunk), frames.split(self.frames_per_chunk)):
            stages = self.backbone.shallow(normalise_imagenet(part).transpose(0, 1)[None])
            for stage, (channels, stride) in zip(stages, self._SLICES_STRIDES):
                per_frame = stage[0].transpose(0, 1)  # (t, C, h, w)
                chunk[..., channels] = resize_stage(per_frame, stride, (height, width), maps.shape[1:3])
            chunk.sub_(self.map_shift).div_(self.map_scale)
            middle.append(stages[-1])
        code = self.backbone.deep(torch.cat(middle, dim=2)).mean(dim=(0, 2, 3, 4))
        return FrameFeatures(maps, (code - self.code_shift) / self.code_scale)
