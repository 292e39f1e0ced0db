"""ResNet-18 features of single frames, for the static field."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, resnet18

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
from semflow.utils.errors import CheckpointError

DOWNLOAD = "download"
_REMEDY = "set encoder.image_weights to a ResNet-18 state dict (.pth) of torchvision, or leave it empty"
_UNUSED = ("layer4.", "fc.")


class ResNet18Encoder(FrozenEncoder):
    """Frozen ResNet-18: 512-channel maps at a quarter of the size, no clip code.

    Args:
        weights: `download` for torchvision's ImageNet weights, a state dict (.pth), or empty = random
            initialisation, calibrated as `frozen` describes.
        seed: of the random initialisation.
        frames_per_chunk: frames encoded together; bounds the memory.

    Raises:
        CheckpointError: the weights cannot be downloaded, or the file is missing, unreadable or of another network.
    """

    channels = 512
    code_channels = 0
    _SLICES_STRIDES = ((slice(0, 64), 4), (slice(64, 128), 4), (slice(128, 256), 8), (slice(256, 512), 16))

    def __init__(self, weights: str | Path = "", seed: int = 0, frames_per_chunk: int = 4):
        super().__init__()
        self.weights, self.seed, self.frames_per_chunk = str(weights), seed, frames_per_chunk
        self.register_buffer("map_shift", torch.zeros(self.channels))
        self.register_buffer("map_scale", torch.ones(self.channels))
        with seeded(seed):
            self.backbone = resnet18(weights=None)
            del self.backbone.layer4, self.backbone.fc
            self.freeze()
            if weights:
                self._load()
            else:
                self._calibrate()

    def _load(self) -> None:
        state = _download() if self.weights == DOWNLOAD else read_state_dict(self.weights, _REMEDY)
        state = {name.removeprefix("module."): value for name, value in state.items()}
        load_weights(self.backbone, {name: value for name, value in state.items() if not name.startswith(_UNUSED)},
                     "torchvision's ResNet-18" if self.weights == DOWNLOAD else self.weights)

    @torch.no_grad()
    def _calibrate(self) -> None:
        frames = normalise_imagenet(natural_clips(8, 1, 96)[:, 0])
        with measuring_norms(self.backbone):
            self._stages(frames)
        stages = self._stages(frames)
        self.map_shift.copy_(torch.cat([stage.mean((0, 2, 3)) for stage in stages]))
        self.map_scale.copy_(torch.cat([stage.std((0, 2, 3)) for stage in stages]).clamp(min=1e-3))

    def _stages(self, frames: Tensor) -> list[Tensor]:
        """conv1 + pool, layer1, layer2, layer3 of normalised frames."""
        net: nn.Module = self.backbone
        stages = [net.maxpool(net.relu(net.bn1(net.conv1(frames))))]
        for layer in (net.layer1, net.layer2, net.layer3):
            stages.append(layer(stages[-1]))
        return stages

    def description(self) -> str:
        """One sentence: which weights are in use."""
        origin = f"weights from {self.weights}" if self.weights else f"random initialisation (seed {self.seed})"
        if self.weights == DOWNLOAD:
            origin = "torchvision's ImageNet weights (IMAGENET1K_V1)"
        return f"ResNet-18, {origin}, {self.channels} channels, frozen"

    @torch.no_grad()
    def forward(self, frames: Tensor) -> FrameFeatures:
        """Encode each frame by itself.

        Args:
            frames: (T, 3, H, W) in [0, 1], any T >= 1.

        Returns:
            maps (T, ceil(H/4), ceil(W/4), 512): conv1 + pool, layer1, layer2, layer3; code (0,).
        """
        check_frames(frames)
        height, width = frames.shape[-2:]
        maps = frames.new_empty(len(frames), (height + 3) // 4, (width + 3) // 4, self.channels)
        for chunk, part in zip(maps.split(self.frames_per_chunk), frames.split(self.frames_per_chunk)):
            for stage, (channels, stride) in zip(self._stages(normalise_imagenet(part)), self._SLICES_STRIDES):
                chunk[..., channels] = resize_stage(stage, stride, (height, width), maps.shape[1:3])
            chunk.sub_(self.map_shift).div_(self.map_scale)
        return FrameFeatures(maps, frames.new_zeros(0))


def _download() -> dict[str, Tensor]:
    """torchvision's ImageNet weights; CheckpointError names the remedy where they cannot be had."""
    try:
        return ResNet18_Weights.IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"encoder.image_weights = download: {ResNet18_Weights.IMAGENET1K_V1.url} cannot be "
                              f"downloaded ({type(error).__name__}: {error}); {_REMEDY}") from error
