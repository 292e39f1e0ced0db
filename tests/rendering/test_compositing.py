"""Compositing against closed forms, cases worked by hand, and the published formula as a naive loop."""

import math
from dataclasses import replace

import pytest
import torch

from semflow.records import FieldSamples
from semflow.rendering.compositing import (
    alpha_from_density,
    blended_weights,
    composite,
    composite_blended,
    integrate,
    sample_distances,
    transmittance,
)

RAYS, SAMPLES, CLASSES = 4, 7, 3


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def field(seed: int, blended: bool = False, rays: int = RAYS, samples: int = SAMPLES) -> FieldSamples:
    """Random samples; a third of the densities are negative."""
    blend = random(rays, samples, seed=seed + 3) if blended else None
    return FieldSamples(
        30 * random(rays, samples, seed=seed) - 10,
        random(rays, samples, 3, seed=seed + 1),
        10 * random(rays, samples, CLASSES, seed=seed + 2) - 5,
        blend,
    )


def places(rays: int = RAYS, samples: int = SAMPLES) -> tuple[torch.Tensor, torch.Tensor]:
    """Sorted u and the lengths of the intervals along rays of different lengths."""
    u = random(rays, samples, seed=9).sort(dim=1).values
    return u, sample_distances(u, random(rays, 3, seed=10) + 0.5)


def centred(samples: int, length: float) -> tuple[torch.Tensor, torch.Tensor]:
    """One ray of `length` field units with evenly spaced samples."""
    u = ((torch.arange(samples, dtype=torch.float64) + 0.5) / samples)[None]
    return u, sample_distances(u, torch.tensor([[0.0, 0.0, length]], dtype=torch.float64))


def uniform_medium(sigma: float, samples: int) -> FieldSamples:
    """A homogeneous medium whose colour and logits say the place u of the sample."""
    u = centred(samples, 1.0)[0]
    return FieldSamples(
        torch.full_like(u, sigma), u[..., None].expand(1, samples, 3), u[..., None].expand(1, samples, CLASSES)
    )


def test_distances_by_hand():
    u = torch.tensor([[0.0, 0.1, 0.4], [0.2, 0.2, 1.0]])
    directions = torch.tensor([[0.0, 3.0, 4.0], [2.0, 0.0, 0.0]])
    torch.testing.assert_close(sample_distances(u, directions), torch.tensor([[0.5, 1.5, 1.5], [0.0, 1.6, 1.6]]))


def test_opacity_of_negative_density_is_zero():
    alpha = alpha_from_density(torch.tensor([[-3.0, 0.0, math.log(2.0)]]), torch.ones(1, 3))
    torch.testing.assert_close(alpha, torch.tensor([[0.0, 0.0, 0.5]]))


def test_transmittance_by_hand():
    torch.testing.assert_close(transmittance(torch.tensor([[0.5, 0.2, 0.1]])), torch.tensor([[1.0, 0.5, 0.1]]))


def test_integrate_is_the_weighted_sum():
    weights, values = random(2, 5), random(2, 5, 4, seed=1)
    torch.testing.assert_close(integrate(weights, values), (weights[..., None] * values).sum(1))


@pytest.mark.parametrize("sigma, length", [(0.0, 1.0), (0.7, 1.0), (2.0, 3.0), (5.0, 0.5)])
def test_a_constant_density_lets_exp_of_minus_sigma_d_pass(sigma, length):
    for samples in (2, 5, 64):
        u, distances = centred(samples, length)
        found = composite(uniform_medium(sigma, samples), u, distances)
        torch.testing.assert_close(1.0 - found.opacity, torch.tensor([math.exp(-sigma * length)], dtype=torch.float64))


def test_integrals_converge_to_the_analytic_ones_with_the_square_of_the_samples():
    sigma, length = 2.0, 1.5
    optical = sigma * length  # the integral of optical * exp(-optical u) * u over [0, 1]
    expected = (1 - (1 + optical) * math.exp(-optical)) / optical
    errors = []
    for samples in (8, 16, 32):
        found = composite(uniform_medium(sigma, samples), *centred(samples, length))
        for value in (found.depth[0], found.rgb[0, 1], found.logits[0, 2]):
            errors.append(abs(float(value) - expected))
    assert errors[0] < 5e-3
    for coarse, fine in zip(errors[:-3], errors[3:]):
        assert 3.5 < coarse / fine < 4.5


def test_an_opaque_wall_returns_its_own_values():
    wall, (u, distances) = field(0), places()
    density = torch.full_like(u, -1.0)
    density[:, 3] = 1e9
    density[:, 5] = 1e9  # hidden behind it
    found = composite(replace(wall, density=density), u, distances)
    torch.testing.assert_close(found.rgb, wall.rgb[:, 3])
    torch.testing.assert_close(found.logits, wall.logits[:, 3])
    torch.testing.assert_close(found.depth, u[:, 3])
    torch.testing.assert_close(found.opacity, torch.ones(RAYS, dtype=torch.float64))


def two_slabs() -> tuple[FieldSamples, torch.Tensor, torch.Tensor]:
    """Half of the light stops in a red slab at u = 0.2, three quarters of the rest in a green one at 0.6."""
    samples = FieldSamples(
        density=torch.tensor([[math.log(2.0), math.log(4.0)]]) / 0.5,
        rgb=torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]),
        logits=torch.tensor([[[4.0, 0.0], [0.0, 8.0]]]),
    )
    return samples, torch.tensor([[0.2, 0.6]]), torch.tensor([[0.5, 0.5]])


def test_two_slabs_by_hand():
    found = composite(*two_slabs())
    torch.testing.assert_close(found.weights, torch.tensor([[0.5, 0.375]]))
    torch.testing.assert_close(found.rgb, torch.tensor([[0.5, 0.375, 0.0]]))
    torch.testing.assert_close(found.logits, torch.tensor([[2.0, 3.0]]))
    torch.testing.assert_close(found.depth, torch.tensor([0.5 * 0.2 + 0.375 * 0.6]))
    torch.testing.assert_close(found.opacity, torch.tensor([0.875]))


def test_two_blended_slabs_by_hand():
    static, u, distances = two_slabs()
    dynamic = FieldSamples(
        density=torch.tensor([[math.log(4.0), 1e9]]) / 0.5,
        rgb=torch.tensor([[[0.0, 0.0, 1.0], [1.0, 1.0, 1.0]]]),
        logits=torch.tensor([[[0.0, 2.0], [6.0, 0.0]]]),
        blend=torch.tensor([[0.4, 0.5]]),
    )
    found, share = composite_blended(static, dynamic, u, distances)
    first_static, first_dynamic = 0.6 * 0.5, 0.4 * 0.75
    passing = (1 - first_static) * (1 - first_dynamic)  # 0.49
    second_static, second_dynamic = passing * 0.5 * 0.75, passing * 0.5 * 1.0
    torch.testing.assert_close(
        found.weights, torch.tensor([[first_static + first_dynamic, second_static + second_dynamic]])
    )
    torch.testing.assert_close(share, torch.tensor([first_dynamic + second_dynamic]))
    torch.testing.assert_close(
        found.rgb,
        torch.tensor([[first_static + second_dynamic, second_static + second_dynamic, first_dynamic + second_dynamic]]),
    )
    torch.testing.assert_close(
        found.logits, torch.tensor([[4 * first_static + 6 * second_dynamic, 2 * first_dynamic + 8 * second_static]])
    )


def naive(static: FieldSamples, dynamic: FieldSamples, u, distances) -> dict[str, torch.Tensor]:
    """The sums of docs/method.md, "Rendering", sample by sample."""
    found = {name: [] for name in ("rgb", "logits", "depth", "opacity", "share")}
    for ray in range(len(u)):
        left, rgb, logits, depth, opacity, share = (
            1.0,
            torch.zeros(3).double(),
            torch.zeros(CLASSES).double(),
            0.0,
            0.0,
            0.0,
        )
        for i in range(u.shape[1]):
            opaque = [
                1.0 - math.exp(-max(0.0, float(f.density[ray, i])) * float(distances[ray, i]))
                for f in (static, dynamic)
            ]
            b = float(dynamic.blend[ray, i])
            weight_static, weight_dynamic = left * (1 - b) * opaque[0], left * b * opaque[1]
            rgb += weight_static * static.rgb[ray, i] + weight_dynamic * dynamic.rgb[ray, i]
            logits += weight_static * static.logits[ray, i] + weight_dynamic * dynamic.logits[ray, i]
            depth += (weight_static + weight_dynamic) * float(u[ray, i])
            opacity += weight_static + weight_dynamic
            share += weight_dynamic
            left *= (1 - b * opaque[1]) * (1 - (1 - b) * opaque[0])
        for name, value in zip(found, (rgb, logits, depth, opacity, share)):
            found[name].append(torch.as_tensor(value, dtype=torch.float64))
    return {name: torch.stack(values) for name, values in found.items()}


def test_the_blended_rendering_equals_the_naive_loop():
    static, dynamic, (u, distances) = field(0), field(20, blended=True), places()
    found, share = composite_blended(static, dynamic, u, distances)
    for name, expected in naive(static, dynamic, u, distances).items():
        torch.testing.assert_close(share if name == "share" else getattr(found, name), expected)


@pytest.mark.parametrize("blend", [0.0, 1.0])
@pytest.mark.parametrize("prior", [True, False])
def test_extreme_blendings_are_the_fields_alone(blend, prior):
    static, dynamic, (u, distances) = field(0), field(20), places()
    dynamic = replace(dynamic, blend=torch.full_like(u, blend))
    found, share = composite_blended(static, dynamic, u, distances, prior)
    alone = composite(dynamic if blend else static, u, distances, prior)
    for name in vars(alone):
        torch.testing.assert_close(getattr(found, name), getattr(alone, name))
    torch.testing.assert_close(share, alone.opacity * blend)


def test_weights_and_what_passes_the_last_sample_sum_to_one():
    samples, (u, distances) = field(0), places()
    found = composite(samples, u, distances)
    left = torch.exp(-(samples.density.relu() * distances).sum(1))
    torch.testing.assert_close(found.weights.sum(1) + left, torch.ones(RAYS, dtype=torch.float64))
    assert (found.weights >= 0).all()


def test_blended_weights_and_what_passes_exceed_one_by_what_is_counted_twice():
    """A sample may stop light in both fields: T(a + c) and what it lets pass, T(1 - a)(1 - c), sum to T(1 + a c)."""
    static, dynamic, (_, distances) = field(0), field(20, blended=True), places()
    weights = blended_weights(static, dynamic, distances)
    a = (1 - dynamic.blend) * alpha_from_density(static.density, distances)
    c = dynamic.blend * alpha_from_density(dynamic.density, distances)
    reaching = transmittance((1 - a) * (1 - c))
    left = ((1 - a) * (1 - c)).prod(1)
    torch.testing.assert_close(sum(weights).sum(1) + left, 1 + (reaching * a * c).sum(1))


def test_logits_are_composited_with_the_weights_of_the_colours():
    static, dynamic, (u, distances) = field(0), field(20, blended=True), places()
    same = [replace(samples, logits=samples.rgb) for samples in (static, dynamic)]
    alone, (both, _) = composite(same[0], u, distances), composite_blended(*same, u, distances)
    torch.testing.assert_close(alone.logits, alone.rgb)
    torch.testing.assert_close(both.logits, both.rgb)


def test_without_the_density_prior_logits_are_means_and_nothing_else_changes():
    static, dynamic, (u, distances) = field(0), field(20, blended=True), places()
    alone, (both, _) = (
        composite(static, u, distances, False),
        composite_blended(static, dynamic, u, distances, False),
    )
    torch.testing.assert_close(alone.logits, static.logits.mean(1))
    mixed = (1 - dynamic.blend)[..., None] * static.logits + dynamic.blend[..., None] * dynamic.logits
    torch.testing.assert_close(both.logits, mixed.mean(1))
    with_prior = composite(static, u, distances), composite_blended(static, dynamic, u, distances)[0]
    for found, expected in zip((alone, both), with_prior):
        for name in ("rgb", "depth", "opacity", "weights"):
            torch.testing.assert_close(getattr(found, name), getattr(expected, name))


def test_gradients_agree_with_finite_differences():
    u, distances = places(2, 3)
    static, dynamic = field(0, rays=2, samples=3), field(20, True, rays=2, samples=3)
    # away from the kink of relu
    tensors = [static.density.abs() + 0.1, static.rgb, dynamic.density.abs() + 0.1, dynamic.logits, dynamic.blend]

    def outputs(a, b, c, d, e):
        found, share = composite_blended(
            replace(static, density=a, rgb=b), replace(dynamic, density=c, logits=d, blend=e), u, distances
        )
        return found.rgb, found.logits, found.depth, share

    assert torch.autograd.gradcheck(outputs, [value.requires_grad_() for value in tensors])
