"""The dynamic field: ranges, what each output may depend on, gradients."""

import pytest
import torch

from semflow.encoders.positional import FrequencyEncoding
from semflow.fields.aggregation import FlowFeatures
from semflow.fields.dynamic import DynamicField
from semflow.fields.flow import Timeline, at_time

POINTS, WIDTH, MOTION, FRAMES = 6, 8, 5, 4


def field(classes=3, neighbours=True, motion=MOTION, code_channels=3, code_blocks=2) -> DynamicField:
    """A field whose residual blocks and density are no longer as they start, in float64."""
    torch.manual_seed(0)
    made = DynamicField(
        FrequencyEncoding(4, 2), WIDTH, code_blocks, 3, code_channels, neighbours, motion, classes
    ).double()
    for name, parameter in made.named_parameters():
        if name.endswith("second.weight") or name == "density.weight":
            torch.nn.init.normal_(parameter, std=0.3)
    return made


def random(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def features() -> FlowFeatures:
    return FlowFeatures(random(POINTS, WIDTH, seed=2), random(POINTS, WIDTH, seed=3), random(POINTS, MOTION, seed=4))


def evaluate(made: DynamicField, given: FlowFeatures, frame: float = 1, frames: int = FRAMES):
    return made(at_time(random(POINTS, 3), frame, Timeline(frames)), random(3), given)


@pytest.mark.parametrize("classes", [2, 7, 150])
@pytest.mark.parametrize("neighbours, motion", [(True, MOTION), (True, 0), (False, 0)])
def test_shapes_and_ranges_with_and_without_features(classes, neighbours, motion):
    given = features()
    given = FlowFeatures(given.current * 50, given.neighbours if neighbours else None, given.motion if motion else None)
    for found in (
        evaluate(field(classes, neighbours, motion), given),
        field(classes, False, 0, 0, 0)(random(POINTS, 4), torch.zeros(0), FlowFeatures()),
    ):
        assert found.density.shape == found.blend.shape == (POINTS,)
        assert found.rgb.shape == (POINTS, 3) and found.logits.shape == (POINTS, classes)
        for share in (found.rgb, found.blend):
            assert (share >= 0).all() and (share <= 1).all()


def test_the_blending_starts_low():
    assert (evaluate(field(), FlowFeatures(*(0 * value for value in vars(features()).values()))).blend < 0.5).all()


def test_the_motion_reaches_the_logits_alone():
    given = features()
    first, second = (
        evaluate(field(), FlowFeatures(given.current, given.neighbours, motion))
        for motion in (given.motion, -given.motion)
    )
    for name in ("density", "rgb", "blend"):
        torch.testing.assert_close(getattr(first, name), getattr(second, name), atol=0, rtol=0)
    assert not torch.allclose(first.logits, second.logits)


def test_the_current_feature_joins_every_block_and_the_neighbours_the_first():
    given, made, arriving = features(), field(), []
    for block in made.blocks:
        block.register_forward_hook(lambda module, inputs, output: arriving.append((inputs[0], output)))
    trunk = []
    made.code_blocks[-1].register_forward_hook(lambda module, inputs, output: trunk.append(output))
    evaluate(made, given)
    expected = trunk[0] + made.fuse(given.neighbours) + given.current
    for arrived, output in arriving:
        torch.testing.assert_close(arrived, expected)
        expected = output + given.current


def test_the_encoding_sees_the_normalised_time(monkeypatch):
    made, seen = field(), []
    encode = made.encoding.forward
    monkeypatch.setattr(made.encoding, "forward", lambda x, scene: seen.append(x) or encode(x, scene))
    for frame, frames, time in ((0, 4, -1.0), (3, 4, 0.5), (3, 12, -0.5)):
        evaluate(made, features(), frame, frames)
        torch.testing.assert_close(
            seen[-1], torch.cat([random(POINTS, 3), torch.full((POINTS, 1), time).double()], dim=1)
        )


def test_time_and_clip_code_matter():
    made, given = field(), features()
    now, later = evaluate(made, given, 1), evaluate(made, given, 2)
    other = made(at_time(random(POINTS, 3), 1, Timeline(FRAMES)), -random(3), given)
    assert not torch.allclose(now.density, later.density) and not torch.allclose(now.density, other.density)


def test_gradients_agree_with_finite_differences_and_reach_every_parameter():
    made, given = field(), [value.requires_grad_() for value in vars(features()).values()]
    coordinates, code = random(POINTS, 4).requires_grad_(), random(3).requires_grad_()

    def outputs(at, c, *values):
        return tuple(vars(made(at, c, FlowFeatures(*values))).values())

    assert torch.autograd.gradcheck(outputs, (coordinates, code, *given), fast_mode=True)
    sum(value.square().sum() for value in outputs(coordinates, code, *given)).backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
