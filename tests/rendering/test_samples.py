"""Samples along rays: bins, surfaces, and quantiles of known densities."""

import pytest
import torch

from semflow.rendering.samples import around_surface, from_weights, stratified


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_stratified_samples_lie_one_in_each_bin():
    u = stratified(200, 8, seeded(), "cpu")
    edges = torch.arange(9) / 8
    assert (u >= edges[:-1]).all() and (u <= edges[1:]).all() and (u.diff(dim=1) > 0).all()
    place = u * 8 - torch.arange(8)
    torch.testing.assert_close(place.mean(0), torch.full((8,), 0.5), atol=0.08, rtol=0)
    torch.testing.assert_close(place.std(0), torch.full((8,), 12**-0.5), atol=0.05, rtol=0)
    assert torch.equal(u, stratified(200, 8, seeded(), "cpu"))


def test_without_a_generator_samples_are_the_centres():
    expected = torch.tensor([0.125, 0.375, 0.625, 0.875]).expand(3, 4)
    torch.testing.assert_close(stratified(3, 4, None, "cpu"), expected)


def test_samples_around_the_surface_have_its_mean_and_spread_and_stay_on_the_ray():
    surface = torch.tensor([0.0, 0.3, 0.99])
    u = around_surface(surface, 5000, 0.03, seeded())
    assert u.shape == (3, 5000) and (u >= 0).all() and (u <= 1).all()
    assert u[1].mean().item() == pytest.approx(0.3, abs=2e-3) and u[1].std().item() == pytest.approx(0.03, rel=0.05)
    assert torch.equal(around_surface(surface, 4, 0.0, seeded()), surface[:, None].expand(3, 4))


def test_uniform_weights_give_evenly_spaced_samples():
    edges = torch.linspace(0, 1, 6).expand(2, 6)
    found = from_weights(edges, torch.full((2, 5), 3.0), 10)
    torch.testing.assert_close(found, ((torch.arange(10) + 0.5) / 10).expand(2, 10), atol=1e-5, rtol=0)


def test_samples_are_the_quantiles_of_a_known_density():
    """Bins of mass 1/2, 0, 1/4, 1/4: the quantile function is linear in each."""
    edges = torch.tensor([[0.0, 0.2, 0.6, 0.8, 1.0]])
    found = from_weights(edges, torch.tensor([[2.0, 0.0, 1.0, 1.0]]), 8)
    q = (torch.arange(8) + 0.5) / 8
    expected = torch.where(q < 0.5, 0.2 * q / 0.5, 0.6 + (q - 0.5) / 0.25 * 0.2)
    torch.testing.assert_close(found, expected[None], atol=1e-3, rtol=0)


def test_samples_of_random_weights_increase_and_scale_does_not_matter():
    weights = torch.rand(20, 9, generator=seeded()) ** 4
    edges = torch.cat(
        [torch.zeros(20, 1), torch.rand(20, 8, generator=seeded(1)).sort(dim=1).values, torch.ones(20, 1)], dim=1
    )
    found = from_weights(edges, weights, 16)
    assert (found.diff(dim=1) >= 0).all() and (found >= 0).all() and (found <= 1).all()
    torch.testing.assert_close(from_weights(edges, 100 * weights, 16), found, atol=1e-4, rtol=0)
    # as many samples in each bin as its share of the weights says, give or take the one at each of its ends
    inside = ((found[:, None] >= edges[:, :-1, None]) & (found[:, None] < edges[:, 1:, None])).sum(-1)
    assert (inside - 16 * weights / weights.sum(1, keepdim=True)).abs().max() < 1.01


def test_an_empty_ray_is_sampled_evenly_and_one_full_bin_takes_all():
    edges = torch.linspace(0, 1, 5).expand(2, 5)
    weights = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 7.0, 0.0]])
    found = from_weights(edges, weights, 4)
    torch.testing.assert_close(found[0], torch.tensor([0.125, 0.375, 0.625, 0.875]))
    assert (found[1] > 0.5).all() and (found[1] < 0.75).all()
