"""From the configuration to the encoders.

Every encoder has `channels`, `code_channels`, `trainable`, `description()` and `forward(frames) -> FrameFeatures`.
"""

from __future__ import annotations

from torch import Tensor, nn

from semflow.config.schema import EncoderConfig
from semflow.encoders.features import DESCRIPTOR_CHANNELS, FrameFeatures, check_frames, clip_descriptor
from semflow.encoders.image import ResNet18Encoder
from semflow.encoders.joint import JointEncoder
from semflow.encoders.pixels import PixelEncoder
from semflow.encoders.reduction import ReducedEncoder
from semflow.encoders.video import SlowOnlyEncoder


class NoEncoder(nn.Module):
    """No features: maps of shape (T, 1, 1, 0), so that reading them at any pixel gives zero channels.

    Args:
        with_code: give the analytic clip descriptor as code, so that a model of several scenes can still tell
            them apart; otherwise the code is empty.
    """

    trainable = False
    channels = 0

    def __init__(self, with_code: bool):
        super().__init__()
        self.code_channels = DESCRIPTOR_CHANNELS if with_code else 0

    def description(self) -> str:
        """One sentence: which weights are in use."""
        return "no image features, no weights"

    def forward(self, frames: Tensor) -> FrameFeatures:
        """Maps (T, 1, 1, 0) and the code of frames (T, 3, H, W) in [0, 1]."""
        check_frames(frames)
        code = clip_descriptor(frames) if self.code_channels else frames.new_zeros(0)
        return FrameFeatures(frames.new_zeros(len(frames), 1, 1, 0), code)


def build_video_encoder(config: EncoderConfig, seed: int) -> nn.Module:
    """The encoder of the dynamic branch, `config.kind`; CheckpointError where its weights cannot be used."""
    if config.kind == "slowonly":
        return reduced(SlowOnlyEncoder(config.video_weights, seed), config.pca)
    if config.kind == "joint":
        return JointEncoder(seed=seed)
    return reduced(PixelEncoder(), config.pca) if config.kind == "pixels" else NoEncoder(with_code=True)


def build_image_encoder(config: EncoderConfig, seed: int) -> nn.Module:
    """The encoder of the static branch, `config.static_kind`; CheckpointError where its weights cannot be used."""
    if config.static_kind == "resnet18":
        return reduced(ResNet18Encoder(config.image_weights, seed), config.pca)
    return NoEncoder(with_code=False)


def reduced(encoder: nn.Module, channels: int) -> nn.Module:
    """A frozen encoder, with maps of no more than so many channels (0: as many as it has)."""
    return ReducedEncoder(encoder, channels) if 0 < channels < encoder.channels else encoder
