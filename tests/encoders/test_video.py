"""SlowOnly-R50: OpenMMLab's names and shapes, locality in time, frozenness, signal scale."""

import functools
import re

import pytest
import torch
from torchvision.models import resnet50

from semflow.encoders.frozen import natural_clips, normalise_imagenet, seeded
from semflow.encoders.video import SlowOnlyBackbone, SlowOnlyEncoder
from semflow.utils.errors import CheckpointError

# (stage, blocks, input channels, width, temporal kernel of conv1) of OpenMMLab's slowonly_r50, inflate (0, 0, 1, 1).
STAGES = ((1, 3, 64, 64, 1), (2, 4, 256, 128, 1), (3, 6, 512, 256, 3), (4, 3, 1024, 512, 3))


def openmmlab_state() -> dict[str, torch.Tensor]:
    """A state dict as OpenMMLab writes it, with random values; the dictionary may be changed, its tensors not."""
    return dict(_random_state())


@functools.cache
def _random_state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    state = {}

    def add(name: str, *shape: int) -> None:
        fan_in = shape[1] * shape[2] * shape[3] * shape[4]
        state[f"{name}.conv.weight"] = torch.randn(*shape, generator=generator) * fan_in**-0.5
        for key, value in (("weight", 1.0), ("bias", 0.1), ("running_mean", 0.0), ("running_var", 1.0)):
            state[f"{name}.bn.{key}"] = torch.full((shape[0],), value)
        state[f"{name}.bn.num_batches_tracked"] = torch.tensor(7)

    add("backbone.conv1", 64, 3, 1, 7, 7)
    for stage, blocks, inputs, width, temporal in STAGES:
        for block in range(blocks):
            name = f"backbone.layer{stage}.{block}"
            add(f"{name}.conv1", width, inputs if block == 0 else 4 * width, temporal, 1, 1)
            add(f"{name}.conv2", width, width, 1, 3, 3)
            add(f"{name}.conv3", 4 * width, width, 1, 1, 1)
        add(f"backbone.layer{stage}.0.downsample", 4 * width, inputs, 1, 1, 1)
    state["cls_head.fc_cls.weight"] = torch.zeros(400, 2048)
    state["cls_head.fc_cls.bias"] = torch.zeros(400)
    state["data_preprocessor.mean"] = torch.zeros(3)
    return state


def inflated(name: str, value: torch.Tensor) -> tuple[str, torch.Tensor]:
    """torchvision's ResNet-50 entry under our name; a temporal kernel looks only at its own frame."""
    name = re.sub(r"conv(\d)", r"conv\1.conv", name)
    name = re.sub(r"bn(\d)", r"conv\1.bn", name)
    name = name.replace("downsample.0", "downsample.conv").replace("downsample.1", "downsample.bn")
    if value.dim() != 4:
        return name, value
    value = value[:, :, None]
    temporal = re.fullmatch(r"layer[34]\.\d\.conv1\.conv\.weight", name)
    return name, torch.nn.functional.pad(value, (0, 0, 0, 0, 1, 1)) if temporal else value


@pytest.fixture(scope="module")
def encoder() -> SlowOnlyEncoder:
    return SlowOnlyEncoder(seed=0)


@pytest.fixture(scope="module")
def weight_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "slowonly.pth"
    torch.save({"meta": {"epoch": 256}, "state_dict": openmmlab_state()}, path)
    return path


@pytest.fixture(scope="module")
def loaded(weight_file) -> SlowOnlyEncoder:
    return SlowOnlyEncoder(weight_file)


def frames_of(count: int, height: int = 16, width: int = 24) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(count))


class TestShapes:
    @pytest.mark.parametrize("count, height, width", [(1, 24, 32), (2, 45, 67), (5, 17, 16)])
    def test_maps_and_code(self, encoder, count, height, width):
        features = encoder(frames_of(count, height, width))
        assert features.maps.shape == (count, (height + 1) // 2, (width + 1) // 2, 832)
        assert features.code.shape == (2048,)
        assert features.maps.dtype == torch.float32 and features.maps.is_contiguous()
        assert (encoder.channels, encoder.code_channels) == (832, 2048)

    @pytest.mark.parametrize("shape", [(3, 24, 32), (2, 4, 24, 32), (0, 3, 24, 32)])
    def test_other_input_is_refused(self, encoder, shape):
        with pytest.raises(ValueError, match=r"\(T, 3, H, W\)"):
            encoder(torch.zeros(shape))


class TestPlace:
    @pytest.mark.parametrize("x, y", [(32, 20), (56, 36)])
    def test_every_stage_answers_to_a_pixel_at_its_place(self, encoder, x, y):
        frames = torch.full((2, 3, 64, 96), 0.5)
        frames[1, :, y, x] = 1.0
        still, lit = encoder(frames).maps
        for channels in (slice(0, 64), slice(64, 320), slice(320, 832)):
            change = (lit - still)[..., channels].norm(dim=-1)
            row, column = divmod(int(change.argmax()), change.shape[1])
            assert abs(row - y // 2) <= 1 and abs(column - x // 2) <= 1  # random kernels may lean to a side


class TestTime:
    def test_maps_see_one_frame_and_the_code_sees_all(self, encoder):
        frames = frames_of(4)
        changed = frames.clone()
        changed[2] = 1 - changed[2]
        before, after = encoder(frames), encoder(changed)
        others = [0, 1, 3]
        assert torch.equal(before.maps[others], after.maps[others])
        assert not torch.allclose(before.maps[2], after.maps[2])
        assert not torch.allclose(before.code, after.code)

    def test_the_code_depends_on_the_order_of_the_frames(self, encoder):
        frames = frames_of(4)
        assert not torch.allclose(encoder(frames).code, encoder(frames[[0, 2, 1, 3]]).code, atol=1e-3)

    def test_temporal_kernels_are_in_stages_three_and_four_only(self, encoder):
        for stage, _, _, _, temporal in STAGES:
            for block in getattr(encoder.backbone, f"layer{stage}"):
                assert block.conv1.conv.kernel_size == (temporal, 1, 1)
                assert block.conv2.conv.kernel_size == (1, 3, 3)

    def test_chunks_do_not_change_the_result(self, encoder):
        frames = frames_of(5)
        single = encoder(frames)
        encoder.frames_per_chunk = 3
        chunked = encoder(frames)
        encoder.frames_per_chunk = 1
        torch.testing.assert_close(single.maps, chunked.maps, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(single.code, chunked.code, rtol=1e-4, atol=1e-4)


class TestFrozen:
    def test_a_parent_in_training_mode_changes_nothing(self, encoder):
        frames = frames_of(2)
        before = encoder(frames)
        state = {name: value.clone() for name, value in encoder.state_dict().items()}
        torch.nn.Sequential(encoder).train()
        after = encoder(frames)
        assert not any(module.training for module in encoder.modules())
        assert torch.equal(before.maps, after.maps) and torch.equal(before.code, after.code)
        assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())

    def test_no_gradients(self, encoder):
        frames = frames_of(1).requires_grad_()
        features = encoder(frames)
        assert not encoder.trainable
        assert not any(parameter.requires_grad for parameter in encoder.parameters())
        assert not features.maps.requires_grad and not features.code.requires_grad


class TestRandomInitialisation:
    def test_the_signal_keeps_its_scale(self, encoder):
        torch.manual_seed(5)
        features = encoder(natural_clips(1, 3, 64)[0])
        for channels in (slice(0, 64), slice(64, 320), slice(320, 832)):
            part = features.maps[..., channels].flatten(0, 2)
            assert abs(part.mean()) < 0.5 and 0.5 < part.std(dim=0).median() < 2
        assert 0.1 < features.code.std() < 3

    def test_the_seed_decides_and_the_global_generator_is_left_alone(self, encoder):
        torch.manual_seed(11)
        expected = torch.rand(3)
        torch.manual_seed(11)
        same = SlowOnlyEncoder(seed=0)
        assert torch.equal(torch.rand(3), expected)
        frames = frames_of(1)
        assert torch.equal(same(frames).maps, encoder(frames).maps)
        with seeded(1):
            other = SlowOnlyBackbone()
        assert not torch.equal(other.conv1.conv.weight, encoder.backbone.conv1.conv.weight)

    def test_description(self, encoder):
        assert encoder.description() == "SlowOnly-R50, random initialisation (seed 0), 832 channels, frozen"


class TestWeights:
    def test_every_tensor_arrives(self, loaded, weight_file):
        state = openmmlab_state()
        held = {f"backbone.{name}": value for name, value in loaded.backbone.state_dict().items()}
        expected = {name for name in state if name.startswith("backbone.")}
        assert held.keys() == expected
        assert all(torch.equal(held[name], state[name]) for name in expected if "num_batches" not in name)
        assert str(weight_file) in loaded.description()

    def test_outputs_are_those_of_the_weights_not_rescaled(self, loaded):
        frames = frames_of(2)
        state = openmmlab_state()
        first = torch.nn.functional.conv2d(
            normalise_imagenet(frames), state["backbone.conv1.conv.weight"][:, :, 0], stride=2, padding=3)
        first = torch.relu(first / (1 + 1e-5) ** 0.5 + 0.1)  # (2, 64, 8, 12)
        # The map's cells lie a quarter of a cell beyond conv1's centres: rows, then columns.
        rows = 0.75 * first[:, :, :-1] + 0.25 * first[:, :, 1:]
        both = 0.75 * rows[..., :-1] + 0.25 * rows[..., 1:]
        maps = loaded(frames).maps[..., :64].permute(0, 3, 1, 2)
        torch.testing.assert_close(maps[:, :, :-1, :-1], both, rtol=1e-3, atol=1e-3)

    def test_still_clip_without_temporal_mixing_agrees_with_torchvision(self):
        torch.manual_seed(0)
        flat = resnet50(weights=None).eval()
        flat.maxpool = torch.nn.Identity()
        backbone = SlowOnlyBackbone().eval()
        backbone.load_state_dict({ours: value for name, value in flat.state_dict().items()
                                  for ours, value in [inflated(name, value)] if not name.startswith("fc.")})
        image = torch.randn(1, 3, 16, 24)
        with torch.no_grad():
            shallow = backbone.shallow(image[:, :, None])
            deep = backbone.deep(shallow[-1])
            first = flat.layer1(flat.relu(flat.bn1(flat.conv1(image))))
            second = flat.layer2(first)
            last = flat.layer4(flat.layer3(second))
        for ours, theirs in ((shallow[1], first), (shallow[2], second), (deep, last)):
            torch.testing.assert_close(ours[:, :, 0], theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))

    def test_a_bare_backbone_without_counters_loads(self, tmp_path, loaded):
        state = {name.removeprefix("backbone."): value for name, value in openmmlab_state().items()
                 if name.startswith("backbone.") and "num_batches" not in name}
        torch.save(state, tmp_path / "bare.pth")
        frames = frames_of(1)
        assert torch.equal(SlowOnlyEncoder(tmp_path / "bare.pth")(frames).code, loaded(frames).code)

    @pytest.mark.parametrize("key, replacement, message", [
        ("backbone.layer3.2.conv1.conv.weight", None, "is missing"),
        ("backbone.layer3.2.conv1.conv.weight", torch.zeros(256, 1024, 1, 1, 1), "has shape"),
        ("backbone.layer3.6.conv1.conv.weight", torch.zeros(256, 1024, 3, 1, 1), "not part of this network"),
        ("backbone.layer2.0.bn.bias", torch.zeros(1), "not part of this network"),
        ("backbone.conv1.bn.running_var", torch.full((64,), float("nan")), "not finite"),
    ])
    def test_a_wrong_key_is_named(self, tmp_path, key, replacement, message):
        state = openmmlab_state()
        state.pop(key, None)
        if replacement is not None:
            state[key] = replacement
        torch.save({"state_dict": state}, tmp_path / "wrong.pth")
        with pytest.raises(CheckpointError, match=message) as error:
            SlowOnlyEncoder(tmp_path / "wrong.pth")
        assert key in str(error.value) and "wrong.pth" in str(error.value) and "\n" not in str(error.value)
