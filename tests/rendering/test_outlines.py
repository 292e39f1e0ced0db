"""Haze that hangs beside a thing, in closed form: in a view it is no part of the thing, wherever that is shown."""

import math

import pytest
import torch
from edit_toys import BALL, CAMERAS, LABELS, SPACE, Balls, renderer_of, shift

from semflow.fields.solid import Solid
from semflow.geometry.spaces import camera_rays
from semflow.rendering import outlines as module
from semflow.rendering.compositing import sample_distances
from semflow.rendering.edited_layers import EditedLayer
from semflow.rendering.edits import LayerEdit, SceneEdits, Thing, Treatment
from semflow.rendering.outlines import Outlines
from semflow.rendering.samples import stratified
from semflow.rendering.static_rays import SampledRays
from semflow.tasks.editing.edit_file import checked_edit
from semflow.tasks.editing.operations import Shown, apply
from semflow.tasks.editing.regions import find_regions
from semflow.tasks.editing.selection import Scenery

SEEN, UNSEEN, REST = 0, 1, 2
EVERYTHING = frozenset({"rgb", "semantic", "flow"})
LARGE = CAMERAS.resized(72, 96)
PLACE = (-0.25, 0.05, 0.1)


class Hazy(Balls):
    """A ball of some density with a soft rim, and haze of its class in all that is right of x = -0.25, the middle of the ball.

    Args:
        dense: density of the ball; at its rim, 0.03 wide, of which no ray sees a fifth, 0.6. haze: of the haze.
        front: up to which z it hangs. jump: along x from frame to frame, which the flow does not know of.
    """

    def __init__(self, dense=400.0, haze=0.05, front=9.0, jump=0.0, **options):
        super().__init__(**options)
        self.dense, self.haze, self.front, self.jump = dense, haze, front, torch.tensor([jump, 0.0, 0.0])

    def dynamic_solid(self, scene, maps, track, rays):
        points = track.positions[0]
        distance = torch.cdist(points, self.centres + track.frame * (self.shift + self.jump)).amin(1)
        rim = (distance < self.radius + 0.03) & (distance >= self.radius)
        haze = (points[:, 0] > -0.25) & (points[:, 2] > -0.5) & (points[:, 2] < self.front)
        density = self.dense * (distance < self.radius) + 0.6 * rim
        density = torch.where(density > 0, density, self.haze * haze)
        return Solid(density, points, (density > 0).float())


class FrontAndBack:
    """The ball and its haze are one thing; what is behind z = 0.1 was never seen."""

    things = (Thing(SEEN, UNSEEN, REST),)

    def groups(self, points, logits, frame):
        assert (logits.argmax(-1) == BALL).all()
        return torch.where(points[:, 2] < 0.1, UNSEEN, SEEN)


class LeftAndRight:
    """Two things of a class: what is left of x = 0, groups 0 and 1, and what is right of it, 3 and 4; 2 is nothing's."""

    things = (Thing(0, 1, REST), Thing(3, 4, REST))

    def groups(self, points, logits, frame):
        return torch.where(points[:, 0] < 0.0, 0, 3)


def layer(opacity=(0.0, 0.0, 1.0), **changes) -> LayerEdit:
    return LayerEdit(Treatment(torch.tensor(opacity), torch.eye(3).repeat(len(opacity), 1, 1)), **changes)


def shot(model, layers=None, time=1.0, cameras=CAMERAS, membership=None, **config):
    renderer = renderer_of(model, **config)
    if layers is not None:
        renderer = renderer.with_edits({"toy": SceneEdits(membership or FrontAndBack(), tuple(layers))})
    return renderer.render("toy", cameras, 1, time, EVERYTHING)


def dilated(mask: torch.Tensor, by: int) -> torch.Tensor:
    return torch.nn.functional.max_pool2d(mask[None].float(), 2 * by + 1, stride=1, padding=by)[0] > 0


def alike(one, two, where) -> None:
    assert where.sum() > 20
    torch.testing.assert_close(one.rgb[where], two.rgb[where], atol=1e-6, rtol=0)


@pytest.mark.parametrize("time", [1.0, 1.5])
@pytest.mark.parametrize("config", [{}, {"occupancy": 24, "chunk": 37}])
def test_a_removed_thing_leaves_the_haze_beside_it(time, config):
    plain, clean = shot(Hazy(), time=time, **config), shot(Balls(radius=0.0), time=time, **config)
    edited = shot(Hazy(), [layer()], time, **config)
    ball = shot(Balls(), time=time, **config).labels == BALL
    off, haze = ~dilated(ball, 3), (plain.rgb - clean.rgb).abs().amax(-1) > 1e-3
    assert (off & haze).sum() > 20 and not (plain.labels == BALL)[off].any()
    alike(edited, plain, off)
    alike(edited, clean, ball)  # without what hangs before and behind it
    whole = shot(Hazy(), [layer((0.0, 0.0, 0.0))], time, **config)  # haze that is removed, too, is no exception
    torch.testing.assert_close(whole.rgb, clean.rgb, atol=1e-6, rtol=0)


def test_a_soft_rim_goes_with_the_thing(monkeypatch):
    """Rays of the rim alone see less of the thing than of haze: the small view, four times as coarse here, knows them."""
    monkeypatch.setattr(module, "WIDTH", 24)
    plain, edited = shot(Hazy(haze=0.0), cameras=LARGE), shot(Hazy(haze=0.0), [layer()], cameras=LARGE)
    clean, ball = shot(Balls(radius=0.0), cameras=LARGE), shot(Balls(), cameras=LARGE).labels == BALL
    rim = (~ball & ((plain.rgb - clean.rgb).abs().amax(-1) > 1e-3))
    assert not (plain.labels == BALL)[rim].any()
    alike(edited, clean, rim)
    far = ~dilated(ball, 9)
    alike(shot(Hazy(), [layer()], cameras=LARGE), shot(Hazy(), cameras=LARGE), far)


@pytest.mark.parametrize("opacity", [0.0, 0.5])
def test_each_thing_has_an_outline_of_its_own(opacity):
    """The right one is edited, the left one stays: haze of the right one beside the left one stays, too."""
    model = Hazy(centres=(PLACE, (0.2, 0.05, 0.1)), radius=0.1, haze=0.05)
    plain = shot(model)
    edited = shot(model, [layer((1.0, 1.0, 1.0, opacity, opacity))], membership=LeftAndRight())
    right = shot(Balls(centres=((0.2, 0.05, 0.1),), radius=0.1)).labels == BALL
    alike(edited, plain, ~dilated(right, 3))
    seen = shot(model, [layer((1.0, 1.0, 1.0, 0.0, 0.0))], membership=LeftAndRight())
    expected = opacity * plain.rgb + (1 - opacity) * seen.rgb
    torch.testing.assert_close(edited.rgb[right], expected[right], atol=2e-3, rtol=0)
    tint = Treatment.none(5).recolored(torch.tensor([False] * 3 + [True] * 2), torch.zeros(3, 3))
    alike(shot(model, [LayerEdit(tint)], membership=LeftAndRight()), plain, ~dilated(right, 3))


@pytest.mark.parametrize("dense", [1.2, 2.0, 4.0])
def test_a_soft_thing_of_two_instances_is_removed_as_a_whole(dense):
    """However its samples are parted: none of the parts need be solid alone."""
    model = Hazy(dense, haze=0.0)
    middle = type("Halves", (), {"things": (Thing(0, 1, REST), Thing(3, 4, REST)),
                                 "groups": lambda self, points, logits, frame: torch.where(points[:, 2] < 0.1, 0, 3)})()
    edited = shot(model, [layer((0.0, 0.0, 1.0, 0.0, 0.0))], membership=middle)
    inside = shot(Balls()).labels == BALL
    assert inside.sum() > 20
    torch.testing.assert_close(edited.rgb[inside], shot(Balls(radius=0.0)).rgb[inside], atol=1e-6, rtol=0)


@pytest.mark.parametrize("time", [1.05, 1.5, 1.9])
def test_between_frames_that_disagree_both_places_are_the_thing(time):
    model = Hazy(haze=0.0, jump=0.3, velocity=(0.0, 0.0, 0.0))
    clean = shot(Balls(radius=0.0), time=time)
    assert (shot(model, time=time).rgb - clean.rgb).abs().amax() > 0.04
    torch.testing.assert_close(shot(model, [layer()], time).rgb, clean.rgb, atol=1e-6, rtol=0)


def test_the_back_of_a_thing_is_part_of_it_where_it_is_dense():
    back = type("Back", (), {"things": FrontAndBack.things,
                             "groups": lambda self, points, logits, frame: torch.full_like(points[:, 0], UNSEEN).long()})()
    torch.testing.assert_close(shot(Balls(), [layer()], membership=back).rgb, shot(Balls(radius=0.0)).rgb, atol=1e-6, rtol=0)


@pytest.mark.parametrize("factor", [1.0, 1.4])
def test_a_moved_thing_takes_no_haze_along(factor):
    place = shift(0.1, 0.25, 0.0)
    place[:, :3, :3] *= factor
    plain, moved = shot(Hazy()), shot(Hazy(), [layer(), layer((1.0, 0.0, 0.0), placement=place)])
    there = shot(Balls(), [layer((0.0, 0.0, 0.0)), layer((1.0, 1.0, 0.0), placement=place)])
    alike(moved, plain, ~dilated((there.labels == BALL) | (shot(Balls()).labels == BALL), 3))
    assert (moved.labels == BALL).sum() > 10


def test_a_thing_that_is_thinner_than_a_pixel_of_the_small_view_is_found(monkeypatch):
    monkeypatch.setattr(module, "WIDTH", 2)
    monkeypatch.setattr(module, "RIM", 0)
    plain, edited = shot(Balls()), shot(Balls(), [layer()])
    assert (plain.labels == BALL).sum() > 10
    torch.testing.assert_close(edited.rgb, shot(Balls(radius=0.0)).rgb, atol=1e-6, rtol=0)


def test_the_small_view_is_that_of_the_camera(monkeypatch):
    """Cameras slide: from camera 3 the ball is elsewhere."""
    monkeypatch.setattr(module, "WIDTH", 24)
    renderer = renderer_of(Hazy(haze=0.0)).with_edits({"toy": SceneEdits(FrontAndBack(), (layer(),))})
    found = renderer.render("toy", LARGE, 3, 1.0, EVERYTHING).rgb
    clean = renderer_of(Balls(radius=0.0)).render("toy", LARGE, 3, 1.0, EVERYTHING).rgb
    torch.testing.assert_close(found, clean, atol=1e-6, rtol=0)


def test_only_things_that_are_treated_apart_are_looked_for():
    things = (Thing(0, 1, 4), Thing(2, 3, 4), Thing(5, 6, 7))
    faded = Treatment(torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]), torch.eye(3).repeat(8, 1, 1))
    (both,) = faded.bodies(things)
    assert both.own.nonzero()[:, 0].tolist() == [0, 1, 2, 3] and both.rest == 4
    one = Treatment.none(8).recolored(torch.arange(8) == 6, torch.zeros(3, 3))
    assert [body.own.nonzero()[:, 0].tolist() for body in one.bodies(things)] == [[5, 6]]
    assert not Treatment.none(8).bodies(things) and not Treatment.none(8).faded(torch.ones(8, dtype=torch.bool), 0.0).bodies(things)
    different = Treatment.none(8).faded(torch.arange(8) < 2, 0.0).faded((torch.arange(8) >= 2) & (torch.arange(8) < 4), 0.5)
    assert [body.own.nonzero()[:, 0].tolist() for body in different.bodies(things)] == [[0, 1], [2, 3]]


def test_a_removal_by_name_leaves_haze_where_it_is():
    """With the instances that are found in the field."""
    model = Hazy(haze=0.02)
    renderer = renderer_of(model)
    regions = find_regions(renderer, "toy", LABELS)
    assert len(regions.things) == sum(item.moves for item in regions.instances) == 1
    edit = checked_edit({"do": "remove", "what": "ball"}, "e")
    selection = Scenery(renderer, "toy", regions).select(edit.what, [], "e")
    shown = apply(Shown.unedited(regions), edit, selection, regions, "e")
    edited = renderer.with_edits({"toy": SceneEdits(regions, shown.layers)}).render("toy", CAMERAS, 3, 1.0, EVERYTHING)
    plain, clean = (renderer_of(m).render("toy", CAMERAS, 3, 1.0, EVERYTHING) for m in (model, Balls(radius=0.0)))
    ball = renderer_of(Balls()).render("toy", CAMERAS, 3, 1.0, EVERYTHING).labels == BALL
    off = ~dilated(ball, 3)
    assert ((plain.rgb - clean.rgb).abs().amax(-1) > 1e-3)[off].sum() > 20
    alike(edited, plain, off)
    assert (edited.rgb - clean.rgb)[ball].abs().max() < 0.02 < 0.2 < (plain.rgb - clean.rgb)[ball].abs().amax(-1).min()


class Soft(Balls):
    """A ball of density 4 in the dynamic field that is blended with a weight of 0.5."""

    def dynamic_solid(self, scene, maps, track, rays):
        solid = super().dynamic_solid(scene, maps, track, rays)
        return Solid(solid.density / 100.0, track.positions[0], 0.5 * solid.blend)


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_the_opacity_of_a_body_is_that_of_its_own_size_and_blending(factor):
    """Along a ray through its middle, of 1,500 samples: 1 - exp(-integral of blend * density), however large it is shown."""
    middle = torch.tensor(PLACE)
    place = torch.eye(4).repeat(len(CAMERAS), 1, 1)
    place[:, :3, :3] *= factor
    place[:, :3, 3] = (1.0 - factor) * SPACE.to_world(middle)
    renderer = renderer_of(Soft(velocity=(0.0, 0.0, 0.0)))
    edited = EditedLayer(layer((1.0, 0.0, 0.0), placement=place), FrontAndBack(), renderer.dynamic_queries("toy", 1.0), SPACE, 1.0)
    uv, in_front = CAMERAS.project(SPACE.to_world(middle[None]), 1)
    rays = camera_rays(CAMERAS, SPACE, 1, uv)
    u = stratified(1, 1500, None, uv.device)
    found = edited.opacity(SampledRays(rays, u, sample_distances(u, rays.directions)))
    assert in_front.all() and found.shape == (1, 1)
    assert found.item() == pytest.approx(1.0 - math.exp(-0.5 * 4.0 * 2 * 0.16), abs=0.01)


@pytest.mark.parametrize(("size", "width"), [((6, 10), 4), ((101, 150), 96), ((9, 200), 96), ((130, 30), 96)])
def test_pixels_of_a_view_find_theirs_in_the_small_one(monkeypatch, size, width):
    monkeypatch.setattr(module, "WIDTH", width)
    cameras = CAMERAS.resized(*size)
    small = module.small_view(cameras)
    numbers = torch.arange(small.height * small.width).view(small.height, small.width)
    uv, depth = small.pixels().flatten(0, 1), torch.full((small.height * small.width,), 2.0)
    there, inside = cameras.project(small.lift(uv, depth, 1), 1)[0], numbers.flatten()
    inside = cameras.inside(there)
    for pixel in numbers.flatten()[inside][:: max(1, inside.sum() // 20)].tolist():
        found = Outlines((numbers == pixel)[None], cameras, torch.ones(1, 1)).around(there[inside])
        assert found[0].nonzero()[:, 0].tolist() == [int(inside[:pixel].sum())]


def test_two_bodies_have_two_outlines(monkeypatch):
    found, find = [], module.find_outlines
    monkeypatch.setattr("semflow.rendering.edited_layers.find_outlines", lambda *args: found.append(find(*args)) or found[0])
    model = Hazy(centres=(PLACE, (0.2, 0.05, 0.1)), radius=0.1, haze=0.0, velocity=(0.0, 0.0, 0.0))
    shot(model, [layer((0.5, 0.5, 1.0, 0.0, 0.0))], membership=LeftAndRight())
    for near, centre in zip(found[0].near, model.centres):
        ball = shot(Balls(centres=(centre.tolist(),), radius=0.1, velocity=(0.0, 0.0, 0.0))).labels == BALL
        assert near[ball].all() and not near[~dilated(ball, 3)].any()
