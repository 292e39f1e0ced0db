"""The static field: ranges, what each output may depend on, gradients."""

import pytest
import torch

from semflow.encoders.positional import FrequencyEncoding
from semflow.fields.heads import FOG_DENSITY
from semflow.fields.static import FEATURE_BLOCKS, StaticField

POINTS = 6


def field(classes=3, channels=4, blocks=5, view_dependent=True, width=8) -> StaticField:
    """A field whose residual blocks and density are no longer as they start, in float64."""
    torch.manual_seed(0)
    made = StaticField(FrequencyEncoding(3, 2), width, blocks, channels, classes, view_dependent).double()
    for block in made.blocks:
        torch.nn.init.normal_(block.second.weight, std=0.3)
    torch.nn.init.normal_(made.density.weight)
    return made


def inputs(width=8):
    generator = torch.Generator().manual_seed(1)
    points, dirs = (torch.randn(POINTS, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    feature = torch.randn(POINTS, width, generator=generator, dtype=torch.float64)
    return points, torch.nn.functional.normalize(dirs, dim=-1), feature


@pytest.mark.parametrize("classes", [2, 7, 150])
@pytest.mark.parametrize("with_feature", [True, False])
def test_shapes_and_ranges(classes, with_feature):
    points, dirs, feature = inputs()
    found = field(classes, channels=4 if with_feature else 0)(points * 10, dirs, feature * 30 if with_feature else None)
    assert (
        found.density.shape == (POINTS,) and found.rgb.shape == (POINTS, 3) and found.logits.shape == (POINTS, classes)
    )
    assert found.blend is None
    assert (found.rgb >= 0).all() and (found.rgb <= 1).all()


def test_the_density_starts_as_a_thin_uniform_fog():
    points, dirs, feature = inputs()
    made = StaticField(FrequencyEncoding(3, 2), 8, 2, 4, 3, True).double()
    density = made(points, dirs, feature).density
    torch.testing.assert_close(density, torch.full((POINTS,), FOG_DENSITY, dtype=torch.float64))
    assert (density > 0).all()  # rendering takes relu: below zero there would be nothing, and no gradient to change it


def test_only_the_colour_sees_the_view_direction():
    points, dirs, feature = inputs()
    first, second = (field()(points, d, feature) for d in (dirs, dirs.flip(0)))
    torch.testing.assert_close(first.density, second.density, atol=0, rtol=0)
    torch.testing.assert_close(first.logits, second.logits, atol=0, rtol=0)
    assert not torch.allclose(first.rgb, second.rgb)
    plain = field(view_dependent=False)
    torch.testing.assert_close(
        plain(points, dirs, feature).rgb, plain(points, dirs.flip(0), feature).rgb, atol=0, rtol=0
    )


@pytest.mark.parametrize("blocks", [1, 3, 5])
def test_the_feature_is_added_before_the_first_three_blocks(blocks):
    points, dirs, feature = inputs()
    made = field(blocks=blocks)
    arriving = []
    for block in made.blocks:
        block.register_forward_hook(lambda module, given, output: arriving.append((given[0], output)))
    made(points, dirs, feature)
    before = [made.first(made.encoding(points))] + [output for _, output in arriving[:-1]]
    for number, ((given, _), previous) in enumerate(zip(arriving, before, strict=True)):
        torch.testing.assert_close(given, previous + feature if number < FEATURE_BLOCKS else previous)


def test_maps_are_projected_by_the_feature_layer():
    made, maps = field(), torch.rand(2, 3, 5, 4, dtype=torch.float64)
    projected = made.project_maps(maps)
    assert projected.shape == (2, 3, 5, 8)
    torch.testing.assert_close(projected[1, 2, 4], made.to_feature(maps[1, 2, 4]))


def test_gradients_agree_with_finite_differences_and_reach_every_parameter():
    points, dirs, feature = inputs()
    made, maps = field(), torch.rand(1, 1, POINTS, 4, dtype=torch.float64)
    smooth = points.requires_grad_()

    def outputs(p, f):
        found = made(p, dirs, f)
        return found.density, found.rgb, found.logits

    assert torch.autograd.gradcheck(outputs, (smooth, feature.requires_grad_()), fast_mode=True)
    feature = made.project_maps(maps)[0, 0]
    sum(value.square().sum() for value in outputs(points, feature)).backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
