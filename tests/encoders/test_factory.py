"""Every configured kind keeps the encoders' common promises."""

import pytest
import torch

from semflow.config.schema import EncoderConfig
from semflow.encoders.factory import build_image_encoder, build_video_encoder
from semflow.encoders.reduction import ReducedEncoder
from semflow.utils.errors import CheckpointError


@pytest.mark.parametrize("kind, channels, trainable", [
    ("slowonly", 832, False), ("joint", 32, True), ("pixels", 24, False), ("none", 0, False)])
def test_video_kinds(kind, channels, trainable):
    encoder = build_video_encoder(EncoderConfig(kind=kind), seed=3)
    features = encoder(torch.rand(2, 3, 12, 16))
    assert (encoder.channels, encoder.trainable) == (channels, trainable)
    assert features.maps.shape[0] == 2 and features.channels == channels
    assert features.code.shape == (encoder.code_channels,) and encoder.code_channels > 0
    assert features.maps.dtype == features.code.dtype == torch.float32
    assert "seed 3" in encoder.description() or "no weights" in encoder.description()


@pytest.mark.parametrize("kind, channels", [("resnet18", 512), ("none", 0)])
def test_image_kinds(kind, channels):
    encoder = build_image_encoder(EncoderConfig(static_kind=kind), seed=3)
    features = encoder(torch.rand(2, 3, 12, 16))
    assert encoder.channels == features.channels == channels
    assert features.code.shape == (0,) and encoder.code_channels == 0


@pytest.mark.parametrize("kind, pca, channels", [
    ("pixels", 5, 5), ("pixels", 24, 24), ("pixels", 0, 24), ("joint", 5, 32), ("none", 5, 0), ("slowonly", 5, 5)])
def test_frozen_maps_can_be_reduced(kind, pca, channels):
    encoder = build_video_encoder(EncoderConfig(kind=kind, pca=pca), seed=3)
    assert encoder.channels == channels
    assert isinstance(encoder, ReducedEncoder) == (channels == 5)


def test_so_can_those_of_the_image():
    assert build_image_encoder(EncoderConfig(static_kind="resnet18", pca=7), seed=3).channels == 7


def test_no_features_are_empty_maps():
    assert build_video_encoder(EncoderConfig(kind="none"), 0)(torch.rand(4, 3, 5, 5)).maps.shape == (4, 1, 1, 0)


def test_weight_files_are_handed_on(tmp_path):
    missing = str(tmp_path / "missing.pth")
    with pytest.raises(CheckpointError, match="encoder.video_weights"):
        build_video_encoder(EncoderConfig(video_weights=missing), seed=0)
    with pytest.raises(CheckpointError, match="encoder.image_weights"):
        build_image_encoder(EncoderConfig(image_weights=missing), seed=0)
