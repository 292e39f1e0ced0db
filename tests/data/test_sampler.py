"""Ray batches: every target comes from the pixel of its ray, half and half, from the generator alone."""

from dataclasses import replace

import pytest
import torch
from toys import make_scene, sampled, turning_cameras

from semflow.data.sampler import RaySampler
from semflow.data.supervision import Supervision, supervise

FRAMES, HEIGHT, WIDTH = 4, 6, 8
ALL_STATIC, ALL_MOVING = 2, 3  # frames without the other region


def numbers(offset: float) -> torch.Tensor:
    """(T, H, W) distinct numbers: 1000 frame + 10 row + column, and an offset."""
    frame, row, column = torch.meshgrid(torch.arange(FRAMES), torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    return 1000.0 * frame + 10.0 * row + column + offset


@pytest.fixture(scope="module")
def scene():
    motion = torch.zeros(FRAMES, HEIGHT, WIDTH, dtype=torch.bool)
    motion[:2, 2:4, 1:5] = True
    motion[ALL_MOVING] = True
    return make_scene(
        turning_cameras(FRAMES, HEIGHT, WIDTH), motion=motion, labels=numbers(0).long(), disparity=numbers(0.4),
        rgb=torch.stack([numbers(0.1), numbers(0.2), numbers(0.3)], dim=-1),
        flow_forward=torch.stack([numbers(0.5), -numbers(0.5)], dim=-1),
        flow_backward=torch.stack([numbers(0.6), -numbers(0.6)], dim=-1), flow_forward_valid=numbers(0) % 2 == 0,
        flow_backward_valid=numbers(0) % 3 == 0)


@pytest.fixture(scope="module")
def supervision():
    return Supervision(
        surface_u=numbers(0.7), surface_metric=torch.tensor([True, False, True, False]), triangulated_u=numbers(0.8),
        triangulated_valid=numbers(0) % 5 == 0, color_valid=torch.tensor([False, True, True, False]), space=None, summary="")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batches(scene, supervision, count=40, rays=10, static_only=False):
    sampler, host, source = RaySampler(scene, supervision, rays, static_only), generator(1), generator()
    return [sampled(sampler, host, source) for _ in range(count)]


def test_every_target_comes_from_the_pixel_of_its_ray(scene, supervision):
    for batch in batches(scene, supervision):
        column, row = (batch.rays.uv - 0.5).unbind(-1)
        number = 1000.0 * batch.frame + 10.0 * row + column
        torch.testing.assert_close(batch.rgb, number[:, None] + torch.tensor([0.1, 0.2, 0.3]))
        assert torch.equal(batch.labels, number.long())
        torch.testing.assert_close(batch.disparity, number + 0.4)
        for offset, shift in ((1, 0.5), (-1, 0.6)):
            torch.testing.assert_close(batch.flow[offset], (number + shift)[:, None] * torch.tensor([1.0, -1.0]))
        assert torch.equal(batch.flow_valid[1], number % 2 == 0)
        assert torch.equal(batch.flow_valid[-1], number % 3 == 0)
        torch.testing.assert_close(batch.surface_u, number + 0.7)
        torch.testing.assert_close(batch.triangulated_u, number + 0.8)
        assert torch.equal(batch.triangulated_valid, number % 5 == 0)
        assert torch.equal(batch.moving, scene.motion[batch.frame, row.long(), column.long()])
        assert batch.surface_metric == (batch.frame in (0, 2))
        assert batch.color_valid.tolist() == [batch.frame in (1, 2)] * 10


def test_rays_project_back_to_their_pixels(scene, supervision):
    u = torch.tensor([[0.1, 0.5, 0.8]]).repeat(10, 1)
    for batch in batches(scene, supervision, count=8):
        uv, in_front = scene.cameras.project(scene.space.to_world(batch.rays.at(u)), batch.frame)
        assert in_front.all()
        torch.testing.assert_close(uv, batch.rays.uv[:, None].expand(-1, 3, -1), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("rays", "moving"), [(10, 5), (7, 3), (1, 0)])
def test_half_of_the_rays_are_static_and_half_move(scene, supervision, rays, moving):
    expected = {0: moving, 1: moving, ALL_STATIC: 0, ALL_MOVING: rays}  # what lacks one region gives all of the other
    for batch in batches(scene, supervision, rays=rays):
        assert len(batch.rays) == rays
        assert int(batch.moving.sum()) == expected[batch.frame]


def test_static_only_draws_static_rays_where_there_are_any(scene, supervision):
    for batch in batches(scene, supervision, static_only=True):
        assert int(batch.moving.sum()) == (10 if batch.frame == ALL_MOVING else 0)


def test_all_frames_and_all_pixels_of_both_regions_are_drawn(scene, supervision):
    drawn = torch.zeros(FRAMES, HEIGHT, WIDTH, dtype=torch.bool)
    for batch in batches(scene, supervision, count=60, rays=64):
        column, row = (batch.rays.uv - 0.5).long().unbind(-1)
        drawn[batch.frame, row, column] = True
    assert drawn.float().mean() > 0.99


def test_the_generators_alone_decide(scene, supervision):
    sampler = RaySampler(scene, supervision, 10, False)
    first = [sampled(sampler, generator(4), generator(5)) for _ in range(2)]
    torch.manual_seed(123)
    other = sampled(RaySampler(scene, supervision, 10, False), generator(4), generator(5))
    for batch in (first[1], other):
        assert (batch.frame, batch.source) == (first[0].frame, first[0].source)
        assert torch.equal(batch.rays.uv, first[0].rays.uv)
    state = torch.get_rng_state()
    sampled(sampler, generator(6), generator(7))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_host_decides_about_frames_and_the_device_about_pixels(scene, supervision):
    sampler, host = RaySampler(scene, supervision, 10, False), generator(4)
    before = host.get_state()
    pixels = []
    for seed in (5, 6):
        host.set_state(before)
        batch = sampled(sampler, host, generator(seed))
        pixels.append(batch.rays.uv)
        assert batch.frame == sampled(sampler, generator(4), generator(0)).frame
    assert not torch.equal(*pixels)


@pytest.mark.parametrize("frame", range(FRAMES))
def test_the_static_source_is_another_frame(scene, supervision, frame):
    sampler, host = RaySampler(scene, supervision, 10, False), generator()
    assert {sampler.static_source(frame, host) for _ in range(60)} == set(range(FRAMES)) - {frame}


def test_a_scene_of_one_frame_has_no_other_source():
    lonely = make_scene(turning_cameras(1, HEIGHT, WIDTH))
    targets = supervise(lonely, False, (0,))
    assert sampled(RaySampler(lonely, targets, 3, True), generator(), generator()).source == 0


def test_a_rank_takes_every_nth_ray_and_knows_where_the_moving_ones_begin(scene, supervision):
    for batch in batches(scene, supervision, count=12, rays=7):
        for start in range(3):
            own = batch.select(slice(start, None, 3))
            assert torch.equal(own.rgb, batch.rgb[start::3]) and torch.equal(own.moving, batch.moving[start::3])


@pytest.mark.parametrize("static_only", [False, True])
def test_a_share_of_the_rays_of_each_region_has_labels(scene, supervision, static_only):
    """Two labels in each region of frame 0, none in frame 1; every label of the others is there."""
    labels = torch.where(numbers(0) >= 2000, numbers(0), -1.0).long()
    for row, column in ((0, 0), (5, 7), (2, 1), (3, 4)):
        labels[0, row, column] = 1
    sampler = RaySampler(replace(scene, labels=labels), supervision, 12, static_only, labelled=0.5)
    known = torch.stack([sampler.of_frame(0, 1, generator(seed)).labels >= 0 for seed in range(200)]).float().mean(0)
    regions = known.split([12] if static_only else [6, 6])
    for shares, chance in zip(regions, (2 / 40, 2 / 8)):
        half = len(shares) // 2
        assert (shares[:half] == 1).all() and shares[half:].mean().item() == pytest.approx(chance, abs=0.05)
    assert (sampler.of_frame(1, 0, generator()).labels < 0).all()
    assert len(sampler.of_frame(ALL_MOVING, 0, generator()).labels) == 12
