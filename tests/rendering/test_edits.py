"""Edited layers of closed-form fields, against the same fields made otherwise."""

import pytest
import torch
from edit_toys import BALL, CAMERAS, RIGHT, Balls, layer, renderer_of, shift, shot
from toys import StandInModel, context_of

from semflow.config.schema import RenderConfig
from semflow.rendering.edits import Clock, Treatment, faded_alpha
from semflow.rendering.model_renderer import ModelRenderer

REMOVED = (1.0, 0.0, 1.0)
ONLY = (0.0, 1.0, 0.0)


def assert_alike(one, two, share: float = 0.005) -> None:
    """The same up to samples at a surface that rounding puts on its other side."""
    for name in ("rgb", "depth", "dynamic_opacity", "static_rgb", "flow"):
        different = (getattr(one, name) - getattr(two, name)).abs() > 2e-3
        assert float(different.float().mean()) <= share, name


def test_the_toy_shows_a_ball():
    view = shot(renderer_of())
    assert 10 < int((view.labels == BALL).sum()) < 200 and (view.labels == RIGHT).any()


@pytest.mark.parametrize("time", [1.0, 1.5])
def test_a_whole_layer_changes_no_bit(time):
    plain, edited = shot(renderer_of(), time=time), shot(renderer_of(), [layer()], time)
    for name, value in vars(plain).items():
        assert torch.equal(value, getattr(edited, name)), name
    rest = shot(renderer_of(), [layer((0.0, 1.0, 0.0))], time)  # parted, but with everything that there is
    torch.testing.assert_close(rest.rgb, plain.rgb, atol=1e-6, rtol=0)
    torch.testing.assert_close(rest.flow, plain.flow, atol=1e-4, rtol=0)


@pytest.mark.parametrize("occupancy", [0, 24])
@pytest.mark.parametrize("time", [1.0, 1.5])
def test_what_is_removed_shows_the_static_field(occupancy, time):
    view = shot(renderer_of(occupancy=occupancy), [layer(REMOVED)], time)
    torch.testing.assert_close(view.rgb, view.static_rgb)
    torch.testing.assert_close(view.static_rgb, shot(renderer_of(occupancy=occupancy), time=time).static_rgb)
    assert not view.dynamic_opacity.any() and not view.flow.any() and not (view.labels == BALL).any()


@pytest.mark.parametrize("vector", [(0.2, 0.1, 0.0), (0.1, 0.0, -0.3)])
@pytest.mark.parametrize("time", [1.0, 1.5])
def test_what_is_moved_looks_like_a_field_with_it_there(vector, time):
    moved = shot(renderer_of(), [layer(REMOVED), layer(ONLY, placement=shift(*vector))], time)
    centre = tuple(a + b for a, b in zip((-0.25, 0.05, 0.1), vector))
    there = shot(renderer_of(Balls(centres=(centre,))), time=time)
    assert_alike(moved, there)
    assert not torch.allclose(moved.rgb, shot(renderer_of(), time=time).rgb, atol=0.1)


def test_a_copy_adds_to_what_is_there():
    two = shot(renderer_of(), [layer(), layer(ONLY, placement=shift(0.3, 0.0, 0.0))])
    assert_alike(two, shot(renderer_of(Balls(centres=((-0.25, 0.05, 0.1), (0.05, 0.05, 0.1))))))


@pytest.mark.parametrize(("steps", "time", "shown"), [
    (((1.0, -1.0),), 2.0, 1.0), (((1.0, -1.0),), 0.5, 0.0), (((0.0, 2.0),), 0.0, 2.0), (((2.0, 0.0),), 1.0, 2.0),
    (((2.0, 0.0),), 3.0, 3.0), (((1.0, -0.5),), 2.0, 1.5), (((-1.0, 3.0),), 1.0, 2.0),
    (((2.0, 0.0), (1.0, -1.0)), 2.0, 2.0), (((1.0, -1.0), (2.0, 0.0)), 1.0, 1.0)])
def test_clocks_show_another_time(steps, time, shown):
    clock = Clock()
    for step in steps:
        clock = clock.then(*step)
    assert clock.at(time, 4) == pytest.approx(shown)
    edited = shot(renderer_of(), [layer(REMOVED), layer(ONLY, clock=clock)], time)
    torch.testing.assert_close(edited.rgb, shot(renderer_of(), time=shown).rgb, atol=1e-5, rtol=0)


def test_the_motion_of_frozen_and_of_fast_things():
    plain = shot(renderer_of())
    frozen = shot(renderer_of(), [layer(clock=Clock(((0.0, 1.0),)))])
    fast = shot(renderer_of(), [layer(clock=Clock(((2.0, -1.0),)))])  # at frame 1 now, at frame 3 in a frame
    assert plain.flow.abs().max() > 0.5 and not frozen.flow.any()
    torch.testing.assert_close(fast.flow, 2 * plain.flow, atol=1e-3, rtol=0)


@pytest.mark.parametrize("opacity", [0.3, 0.8])
def test_opacity_is_the_share_of_the_thing(opacity):
    seen, edited = shot(renderer_of()), shot(renderer_of(), [layer((1.0, opacity, 1.0))])
    expected = opacity * seen.rgb + (1.0 - opacity) * seen.static_rgb
    torch.testing.assert_close(edited.rgb, expected, atol=2e-3, rtol=0)
    torch.testing.assert_close(edited.dynamic_opacity, opacity * seen.dynamic_opacity, atol=1e-3, rtol=0)


def test_faded_samples_keep_their_share_of_the_thing():
    alpha = torch.tensor([[0.5, 0.0, 0.5, 1.0, 0.3]])  # weights 0.5, 0, 0.25, 0.25, 0
    faded = faded_alpha(alpha, 0.4)
    light = torch.cat([torch.ones(1, 1), (1 - faded).cumprod(1)[:, :-1]], 1)
    torch.testing.assert_close(light * faded, torch.tensor([[0.2, 0.0, 0.1, 0.1, 0.0]]))


def test_colours_are_multiplied_and_clipped():
    swap = torch.tensor([[0.0, 1.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    treatment = Treatment.none(3).recolored(torch.tensor([False, True, False]), swap)
    rgb = torch.tensor([[0.9, 0.1, 0.2], [0.9, 0.1, 0.2]])
    found = treatment.colored(rgb, torch.tensor([0, 1]))
    torch.testing.assert_close(found, torch.tensor([[0.9, 0.1, 0.2], [0.1, 1.0, 0.2]]))
    again = treatment.recolored(torch.tensor([False, True, False]), 0.5 * torch.eye(3))
    torch.testing.assert_close(again.color[1], 0.5 * swap)


@pytest.mark.parametrize("occupancy", [0, 24])
def test_static_things_are_removed_and_recoloured(occupancy):
    right = torch.tensor([False, False, True])
    plain = shot(renderer_of(occupancy=occupancy))
    still = Treatment.none(3).faded(right, 0.0)
    gone = shot(renderer_of(occupancy=occupancy), [layer(REMOVED)], still=still)
    own = plain.static_rgb.sum(-1) > 0
    right_half = torch.arange(CAMERAS.width).expand(CAMERAS.height, -1) > CAMERAS.width / 2 + 2
    assert own.all() and not gone.rgb[right_half].any()
    torch.testing.assert_close(gone.rgb[:, :10], plain.static_rgb[:, :10])
    grey = Treatment.none(3).recolored(right, torch.full((3, 3), 1 / 3))
    tinted = shot(renderer_of(occupancy=occupancy), [layer(REMOVED)], still=grey).rgb
    expected = plain.static_rgb.mean(-1, keepdim=True).expand(-1, -1, 3)
    torch.testing.assert_close(tinted[right_half], expected[right_half], atol=2e-3, rtol=0)


def test_a_static_thing_becomes_a_layer_that_looks_the_same():
    still = Treatment.none(3).faded(torch.tensor([False, False, True]), 0.0)
    plain = shot(renderer_of())
    parted = shot(renderer_of(), [layer(), layer((0.0, 0.0, 1.0), moves=False)], still=still)
    assert float(((parted.rgb - plain.rgb).abs() > 2e-3).float().mean()) < 0.01


def test_the_background_of_another_scene():
    class Darker(StandInModel):
        WALL_U = 0.85

        def static_appearance(self, solid, view_dirs):
            rgb, logits = super().static_appearance(solid, view_dirs)
            return 0.2 * rgb, logits

    other = ModelRenderer(Darker(), {"other": context_of(CAMERAS)}, RenderConfig(samples=96, occupancy=0))  # in NDC
    plain, view = shot(renderer_of()), shot(renderer_of(), [layer()], backdrop=(other, "other"))
    ball = plain.dynamic_opacity > 0.99
    assert ball.sum() > 10
    torch.testing.assert_close(view.static_rgb, other.render("other", CAMERAS, 1, 1.0, frozenset({"static"})).static_rgb)
    inside = (view.rgb - plain.rgb).abs().amax(-1)[ball] < 0.02
    assert inside.float().mean() > 0.9


@pytest.mark.parametrize("time", [1.0, 1.5])
@pytest.mark.parametrize("chunk", [0, 37])
def test_skipping_and_asking_everywhere_agree_under_edits(time, chunk):
    turn = shift(0.1, 0.1, 0.1)
    turn[:, :3, :3] = torch.tensor([[0.0, -1.3, 0.0], [1.3, 0.0, 0.0], [0.0, 0.0, 1.3]])
    layers = [layer((1.0, 0.5, 1.0)), layer(ONLY, placement=shift(0.35, -0.1, -0.2), clock=Clock(((1.0, -0.7),))),
              layer(ONLY, placement=turn), layer((0.0, 0.0, 1.0), placement=shift(-0.2, 0.1, 0.3), moves=False)]
    still = Treatment.none(3).faded(torch.tensor([False, False, True]), 0.0)
    dense = shot(renderer_of(fine_samples=8), layers, time, still=still)
    sparse = shot(renderer_of(fine_samples=8, occupancy=32, chunk=chunk), layers, time, still=still)
    for name, value in vars(dense).items():
        torch.testing.assert_close(getattr(sparse, name), value, atol=2e-3, rtol=2e-3)
    assert (dense.labels == BALL).sum() > 1.5 * (shot(renderer_of(), time=time).labels == BALL).sum()


def test_nothing_is_known_outside_of_the_box():
    far = shot(renderer_of(Balls(radius=9.0)), [layer(ONLY, placement=shift(5.0, 0.0, 0.0))])
    assert not far.dynamic_opacity.any()
