"""ResNet-18: shapes, weights from torchvision's state dict, frozenness."""

import urllib.error

import pytest
import torch
from torchvision.models import ResNet18_Weights, resnet18

from semflow.encoders.frozen import natural_clips, normalise_imagenet
from semflow.encoders.image import ResNet18Encoder
from semflow.utils.errors import CheckpointError


@pytest.fixture(scope="module")
def encoder() -> ResNet18Encoder:
    return ResNet18Encoder(seed=0)


def frames_of(count: int, height: int = 24, width: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("count, height, width", [(1, 24, 32), (2, 45, 67), (5, 17, 16)])
def test_shapes(encoder, count, height, width):
    features = encoder(frames_of(count, height, width))
    assert features.maps.shape == (count, (height + 3) // 4, (width + 3) // 4, 512)
    assert features.maps.is_contiguous() and features.code.shape == (0,)
    assert (encoder.channels, encoder.code_channels) == (512, 0)


def test_each_frame_by_itself_and_in_any_chunk(encoder):
    frames = frames_of(5)
    whole = encoder(frames).maps
    for index in range(5):
        torch.testing.assert_close(encoder(frames[index:index + 1]).maps[0], whole[index], rtol=1e-4, atol=1e-4)


def test_a_parent_in_training_mode_changes_nothing(encoder):
    frames = frames_of(2)
    before = encoder(frames).maps
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    torch.nn.Sequential(encoder).train()
    assert torch.equal(encoder(frames).maps, before)
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_random_features_have_unit_scale(encoder):
    torch.manual_seed(5)
    features = encoder(natural_clips(1, 3, 128)[0])
    for channels in (slice(0, 64), slice(64, 128), slice(128, 256), slice(256, 512)):
        part = features.maps[..., channels].flatten(0, 2)
        assert abs(part.mean()) < 0.5 and 0.5 < part.std(dim=0).median() < 2


def test_torchvision_weights_load_and_are_not_rescaled(tmp_path, encoder):
    torch.manual_seed(1)
    source = resnet18(weights=None).eval()
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    loaded = ResNet18Encoder(tmp_path / "resnet18.pth")
    frames = frames_of(1, 32, 32)
    with torch.no_grad():
        net = normalise_imagenet(frames)
        net = source.maxpool(source.relu(source.bn1(source.conv1(net))))  # (1, 64, 8, 8), cell k centred at 4k + 0.5
    expected = torch.lerp(net[..., :-1, :], net[..., 1:, :], 0.375)  # the map's cells lie 1.5 of 4 pixels further on
    expected = torch.lerp(expected[..., :-1], expected[..., 1:], 0.375)
    maps = loaded(frames).maps
    torch.testing.assert_close(maps[0, :-1, :-1, :64].permute(2, 0, 1), expected[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(maps, encoder(frames).maps)
    assert "resnet18.pth" in loaded.description()


@pytest.mark.parametrize("change, message", [
    (lambda state: state.pop("layer2.0.conv1.weight"), "layer2.0.conv1.weight is missing"),
    (lambda state: state.update({"bn1.bias": torch.zeros(3)}), "bn1.bias has shape"),
    (lambda state: state.update({"layer1.2.conv1.weight": torch.zeros(64, 64, 3, 3)}), "layer1.2.conv1.weight is not"),
])
def test_a_wrong_key_is_named(tmp_path, change, message):
    state = resnet18(weights=None).state_dict()
    change(state)
    torch.save(state, tmp_path / "wrong.pth")
    with pytest.raises(CheckpointError, match=message):
        ResNet18Encoder(tmp_path / "wrong.pth")


def test_a_failed_download_names_the_remedy(monkeypatch):
    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", refuse)
    with pytest.raises(CheckpointError, match="no route to host.*encoder.image_weights.*pth"):
        ResNet18Encoder("download")


def test_a_download_is_used_and_named(monkeypatch):
    torch.manual_seed(2)
    state = resnet18(weights=None).state_dict()
    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", lambda *args, **kwargs: state)
    encoder = ResNet18Encoder("download")
    assert torch.equal(encoder.backbone.conv1.weight, state["conv1.weight"])
    assert "ImageNet" in encoder.description()
