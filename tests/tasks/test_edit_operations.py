"""Operations: what is shown after them, alone and combined, in closed form."""

import pytest
import torch
from edit_toys import LABELS, SPACE, Balls, ToyRun, renderer_of, shot

from semflow.tasks.editing.edit_file import OPERATIONS, WITHOUT_TARGET, checked_edit
from semflow.tasks.editing.edited import edited_run
from semflow.tasks.editing.operations import ACTIONS, rotation
from semflow.tasks.editing.regions import find_regions
from semflow.tasks.editing.selection import Scenery
from semflow.utils.errors import ConfigError

UNIT = SPACE.scale  # world units per field unit
FIRST, SECOND = (-0.3, 0.15, 0.0), (0.15, -0.1, 0.0)


@pytest.fixture(scope="module")
def target():
    """A run of two balls, what its edits are looked up in, and the name of the instance at FIRST."""
    loaded = ToyRun(balls(FIRST, SECOND))
    scenery = Scenery(loaded.renderer, "toy", find_regions(loaded.renderer, "toy", LABELS))
    first = min((item for item in scenery.regions.instances if item.moves), key=lambda item: float(item.centres[0, 0]))
    return loaded, scenery, first.name


@pytest.fixture
def edited(target):
    """edited(*records) -> the renderer with those edits."""

    def edited(*records):
        loaded, scenery, first = target
        named = [record | {"what": [first if t == "FIRST" else t for t in record["what"]]} if "what" in record else record
                 for record in records]
        return edited_run(loaded, scenery, [checked_edit(record, "e") for record in named]).renderer

    return edited


def of(do: str, *what: str, **values):
    return {"do": do, "what": list(what)} | values


def same(one, two) -> bool:
    return float(((one.rgb - two.rgb).abs() > 2e-3).float().mean()) < 0.01


def balls(*centres):
    return renderer_of(Balls(centres=centres, radius=0.14))


def test_every_operation_of_the_edit_file_can_be_done():
    """What has no target exchanges a field as a whole: `edited_run` does it, not an action."""
    assert set(ACTIONS) == set(OPERATIONS) - set(WITHOUT_TARGET)


def test_one_instance_is_removed_and_the_other_stays(edited):
    assert same(shot(edited(of("remove", "FIRST"))), shot(balls(SECOND)))
    assert same(shot(edited(of("keep", "FIRST", "static"))), shot(balls(FIRST)))
    alone = shot(edited(of("keep", "FIRST")))
    assert not alone.rgb[alone.dynamic_opacity < 0.01].any() and alone.dynamic_opacity.max() > 0.9
    assert not shot(edited(of("keep", "static"))).dynamic_opacity.any()


def test_one_instance_is_moved_in_world_units(edited):
    there = tuple(a + b for a, b in zip(FIRST, (0.05, 0.1, 0.0)))
    assert same(shot(edited(of("move", "FIRST", by=[0.05 * UNIT, 0.1 * UNIT, 0.0]))), shot(balls(there, SECOND)))


def test_moves_add_up_and_come_back(edited, target):
    there, back = of("move", "ball", by=[0.1, -0.2, 0.3]), of("move", "ball", by=[-0.1, 0.2, -0.3])
    assert same(shot(edited(there, back)), shot(target[0].renderer))
    assert same(shot(edited(there, there)), shot(edited(of("move", "ball", by=[0.2, -0.4, 0.6]))))


def test_the_order_of_edits_counts(edited):
    """A copy of what is removed later goes too, a copy of what was removed before never comes."""
    copy, gone = of("duplicate", "FIRST", **{"as": "twin"}, by=[0.3 * UNIT, 0.0, 0.0]), of("remove", "FIRST")
    twin = (FIRST[0] + 0.3, *FIRST[1:])
    assert same(shot(edited(copy)), shot(balls(FIRST, SECOND, twin)))
    assert same(shot(edited(copy, gone)), shot(balls(SECOND)))
    assert same(shot(edited(gone, copy)), shot(balls(SECOND)))
    assert same(shot(edited(copy, of("remove", "twin"))), shot(balls(FIRST, SECOND)))
    assert same(shot(edited(copy, of("keep", "twin", "static"))), shot(balls(twin)))


def test_a_copy_is_edited_by_its_name(edited):
    view = shot(edited(of("duplicate", "FIRST", **{"as": "twin"}, by=[0.3 * UNIT, 0.0, 0.0]),
                       of("recolour", "twin", colour=[0.0, 0.0, 1.0]), of("delay", "twin", frames=1)))
    blue = (view.rgb[..., 2] > 0.25) & (view.rgb[..., 0] < 0.05)
    expected = shot(balls((FIRST[0] + 0.3, *FIRST[1:])), time=0.0).dynamic_opacity > 0.99
    assert blue[expected].float().mean() > 0.9 and blue.sum() < 2 * expected.sum()


def test_colour_keeps_brightness(edited):
    view, plain = (shot(edited(edit)) for edit in (
        of("recolour", "ball", colour=[0.0, 1.0, 0.0]), of("move", "ball", by=[0, 0, 0])))
    inside = plain.dynamic_opacity > 0.999
    luminance = (plain.rgb[inside] * torch.tensor([0.2126, 0.7152, 0.0722])).sum(-1)
    green = torch.stack([0 * luminance, 2 * luminance, 0 * luminance], -1)
    torch.testing.assert_close(view.rgb[inside], green, atol=5e-3, rtol=0)


def test_turning_and_growing_keep_the_centre(edited, target):
    """A turned ball is the same ball; one of twice the size has twice the radius, about what is seen of it."""
    plain = shot(target[0].renderer)
    assert same(shot(edited(of("rotate", "FIRST", degrees=[0, 0, 90]))), plain)
    grown, small = (shot(edited(of("scale", "FIRST", factor=factor), of("keep", "FIRST"))).dynamic_opacity
                    for factor in (1.5, 1.0))
    assert float(grown.sum() / small.sum()) == pytest.approx(2.25, rel=0.25)
    pixels = torch.stack(torch.meshgrid(torch.arange(18.0), torch.arange(24.0), indexing="ij"), -1)
    centres = [(share[..., None] * pixels).sum((0, 1)) / share.sum() for share in (grown, small)]
    assert float((centres[0] - centres[1]).norm()) < 0.7


def test_rotation_is_right_handed_about_x_then_y_then_z():
    x, y, _ = torch.eye(3)
    torch.testing.assert_close(rotation([0, 0, 90]) @ x, y, atol=1e-6, rtol=0)
    torch.testing.assert_close(rotation([90, 90, 0]) @ y, x, atol=1e-6, rtol=0)


def test_time_operations(edited, target):
    plain = target[0].renderer
    assert same(shot(edited(of("freeze", "moving", frame=2)), time=0.0), shot(plain, time=2.0))
    assert same(shot(edited(of("delay", "ball", frames=1)), time=3.0), shot(plain, time=2.0))
    assert same(shot(edited(of("speed", "ball", factor=0.5, **{"from": 2})), time=3.0), shot(plain, time=2.5))
    assert same(shot(edited(of("speed", "ball", factor=0.5)), time=3.0), shot(plain, time=1.5))


@pytest.mark.parametrize(("factor", "place", "time", "shown"), [
    (-1.0, None, 0.0, 3.0), (-1.0, None, 2.0, 1.0), (-0.5, None, 2.0, 2.0), (-1.0, 2, 3.0, 1.0)])
def test_what_goes_backwards_begins_with_the_last_frame_unless_told_otherwise(edited, target, factor, place, time, shown):
    values = {"factor": factor} | ({} if place is None else {"from": place})
    assert same(shot(edited(of("speed", "ball", **values)), time=time), shot(target[0].renderer, time=shown))


def test_static_things_move_too(edited):
    view = shot(edited(of("remove", "ball"), of("move", "right", by=[0.0, 0.0, 0.5])))
    assert (view.labels == 2).any() and view.dynamic_opacity.max() > 0.9
    assert view.depth[view.dynamic_opacity > 0.9].max() < view.depth[view.dynamic_opacity < 0.1].min()


@pytest.mark.parametrize(("records", "message"), [
    ([of("delay", "right", frames=1)], r"edits\[0\].what: names something of the static field"),
    ([of("duplicate", "ball", **{"as": "wall"})], r"edits\[0\].as = 'wall': this name is taken"),
    (2 * [of("duplicate", "ball", **{"as": "a"})], r"edits\[1\].as = 'a': this name is taken"),
    ([{"do": "background", "scene": "toy"}, of("remove", "wall")], r"edits\[1\]: the background has been swapped before"),
    ([{"do": "background", "scene": "other"}], r"edits\[0\].scene = 'other': the run holds toy"),
    ([of("remove", "cat")], r"edits\[0\].what = 'cat': is nothing in scene toy")])
def test_what_cannot_be_done_is_one_line(edited, records, message):
    with pytest.raises(ConfigError, match="^" + message) as caught:
        edited(*records)
    assert "\n" not in str(caught.value)
