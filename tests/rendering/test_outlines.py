"""Haze that hangs beside a thing, in closed form: in a view it is no part of the thing, wherever that is shown."""

import pytest
import torch
from edit_toys import BALL, CAMERAS, Balls, renderer_of, shift

from semflow.fields.solid import Solid
from semflow.rendering import outlines as module
from semflow.rendering.edits import LayerEdit, SceneEdits, Thing, Treatment
from semflow.rendering.outlines import Outlines

SEEN, UNSEEN, REST = 0, 1, 2
EVERYTHING = frozenset({"rgb", "semantic", "flow"})


class Hazy(Balls):
    """A ball, and haze of its class in all that is right of x = 0.2, up to z = `front`."""

    def __init__(self, density: float = 0.1, front: float = 9.0):
        super().__init__()
        self.haze, self.front = density, front

    def dynamic_solid(self, scene, maps, track, rays):
        solid, points = super().dynamic_solid(scene, maps, track, rays), track.positions[0]
        haze = ((points[:, 0] > 0.2) & (points[:, 2] > -0.5) & (points[:, 2] < self.front) & (solid.blend == 0)).float()
        return Solid(solid.density + self.haze * haze, points, solid.blend + haze)


class FrontAndBack:
    """The ball and its haze are one thing; what is behind z = 0.1 was never seen."""

    things = (Thing(SEEN, UNSEEN, REST),)

    def groups(self, points, logits, frame):
        assert (logits.argmax(-1) == BALL).all()
        return torch.where(points[:, 2] < 0.1, UNSEEN, SEEN)


def layer(opacity=(0.0, 0.0, 1.0), **changes) -> LayerEdit:
    return LayerEdit(Treatment(torch.tensor(opacity), torch.eye(3).repeat(3, 1, 1)), **changes)


def shot(model, layers=None, time=1.0, **config):
    renderer = renderer_of(model, **config)
    if layers is not None:
        renderer = renderer.with_edits({"toy": SceneEdits(FrontAndBack(), tuple(layers))})
    return renderer.render("toy", CAMERAS, 1, time, EVERYTHING)


def dilated(mask: torch.Tensor, by: int) -> torch.Tensor:
    return torch.nn.functional.max_pool2d(mask[None].float(), 2 * by + 1, stride=1, padding=by)[0] > 0


@pytest.mark.parametrize("time", [1.0, 1.5])
@pytest.mark.parametrize("config", [{}, {"occupancy": 24, "chunk": 37}])
def test_a_removed_thing_leaves_the_haze_beside_it_to_the_last_bit(time, config):
    plain, clean = shot(Hazy(), time=time, **config), shot(Balls(), [layer((0.0, 0.0, 0.0))], time, **config)
    edited = shot(Hazy(), [layer()], time, **config)
    ball = shot(Balls(), time=time, **config).labels == BALL
    off, haze = ~dilated(ball, 2), (plain.rgb - clean.rgb).abs().amax(-1) > 1e-3
    assert (off & haze).sum() > 20 and not (plain.labels == BALL)[off].any()
    torch.testing.assert_close(edited.rgb[off], plain.rgb[off], atol=1e-6, rtol=0)
    torch.testing.assert_close(edited.rgb[ball], clean.rgb[ball], atol=1e-6, rtol=0)  # with the haze before and behind it
    whole = shot(Hazy(), [layer((0.0, 0.0, 0.0))], time, **config)  # haze that is removed, too, is no exception
    torch.testing.assert_close(whole.rgb, clean.rgb, atol=1e-6, rtol=0)


def test_what_was_never_seen_is_no_thing_however_dense():
    plain, edited = shot(Hazy(400.0, front=0.05)), shot(Hazy(400.0, front=0.05), [layer()])
    off = ~dilated(shot(Balls()).labels == BALL, 2)
    assert (plain.labels == BALL)[off].sum() > 20
    torch.testing.assert_close(edited.rgb[off], plain.rgb[off], atol=1e-6, rtol=0)


def test_a_moved_thing_takes_no_haze_along():
    plain = shot(Hazy())
    moved = shot(Hazy(), [layer(), layer((1.0, 0.0, 0.0), placement=shift(0.1, 0.25, 0.0))])
    there = shot(Balls(centres=((-0.15, 0.3, 0.1),)))
    off = ~dilated((there.labels == BALL) | (shot(Balls()).labels == BALL), 2)
    torch.testing.assert_close(moved.rgb[off], plain.rgb[off], atol=1e-6, rtol=0)
    assert (moved.labels == BALL).sum() > 10


def test_a_thing_that_is_thinner_than_a_pixel_of_the_small_view_is_found(monkeypatch):
    monkeypatch.setattr(module, "WIDTH", 2)
    monkeypatch.setattr(module, "RIM", 0)
    plain, edited = shot(Balls()), shot(Balls(), [layer()])
    assert (plain.labels == BALL).sum() > 10
    torch.testing.assert_close(edited.rgb, shot(Balls(), [layer((0.0, 0.0, 0.0))]).rgb, atol=1e-6, rtol=0)


def test_small_views_are_asked_for_only_where_a_thing_is_told_apart(monkeypatch):
    asked = []
    monkeypatch.setattr("semflow.rendering.edited_layers.find_outlines", lambda *args: asked.append(args))
    shot(Balls(), [layer((0.5, 0.5, 0.5))])
    assert not asked
    recoloured = Treatment.none(3).recolored(torch.tensor([True, False, False]), torch.zeros(3, 3))
    shot(Balls(), [LayerEdit(recoloured), layer((1.0, 1.0, 0.9))])
    assert len(asked) == 2


def test_pixels_of_a_view_find_theirs_in_the_small_one():
    near = torch.zeros(1, 3, 4, dtype=torch.bool)
    near[0, 1, 2] = True  # of a view 10 wide and 6 high: x from 5 to 7.5, y from 2 to 4
    uv = torch.tensor([[5.1, 2.1], [7.4, 3.9], [4.9, 3.0], [7.6, 3.0], [6.0, 1.9], [6.0, 4.1], [10.0, 6.0]])
    found = Outlines(near, torch.tensor([4 / 10, 3 / 6])).around(uv)
    assert found.tolist() == [[True, True, False, False, False, False, False]]
