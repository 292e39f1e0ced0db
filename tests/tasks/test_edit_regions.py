"""Instances and selections of closed-form scenes."""

import pytest
import torch
from edit_toys import BALL, CAMERAS, LABELS, RIGHT, SPACE, WALL, Balls, renderer_of
from toys import one_hot_logits

from semflow.tasks.editing import regions as module
from semflow.tasks.editing.regions import Cells, connected, find_regions, large_regions
from semflow.tasks.editing.selection import Scenery
from semflow.tasks.editing.surfaces import Surfaces
from semflow.utils.errors import ConfigError

TWO = ((-0.3, 0.15, 0.0), (0.15, -0.1, 0.0))


@pytest.fixture(scope="module")
def scenery() -> Scenery:
    renderer = renderer_of(Balls(centres=TWO, radius=0.12))
    return Scenery(renderer, "toy", find_regions(renderer, "toy", LABELS))


def names(selection) -> tuple[list[int], list[int]]:
    return selection.moving.nonzero()[:, 0].tolist(), selection.still.nonzero()[:, 0].tolist()


def test_two_balls_are_two_instances_in_all_frames(scenery):
    instances = {item.name: item for item in scenery.regions.instances}
    assert set(instances) == {"ball#1", "ball#2", "wall#1", "right#1"}
    assert [instances[n].moves for n in ("ball#1", "ball#2", "wall#1")] == [True, True, False]
    found = torch.stack([instances[n].centres for n in ("ball#1", "ball#2")])
    shift = Balls().shift * torch.arange(4)[:, None]
    true = SPACE.to_world(torch.tensor(TWO)[:, None] + shift)
    order = [0, 1] if (found[0, 0] - true[0, 0]).norm() < (found[0, 0] - true[1, 0]).norm() else [1, 0]
    lateral = (found - true[order])[..., :2].norm(dim=-1)
    assert float(lateral.max()) < 0.3 * 0.12 * SPACE.scale  # depth is that of the side which is seen
    assert instances["ball#1"].frames == (0, 1, 2, 3)


def test_samples_belong_to_the_nearest_instance_of_their_class(scenery):
    """What is far from all instances of its class is in a group of its own."""
    shift = 2 * Balls().shift
    front = torch.tensor([0.0, 0.0, 0.11])
    points = torch.cat([torch.tensor(TWO) + shift + front, torch.tensor([[0.5, 0.5, -0.3]])])
    groups = scenery.regions.groups(points, one_hot_logits(torch.tensor([BALL] * 3)), 2)
    chosen = scenery.select(["ball"], [], "e").moving[groups]
    assert groups[0] != groups[1] and chosen.tolist() == [True, True, False]
    assert not scenery.regions.moving.never_seen[groups].any()
    again = scenery.regions.groups(points, one_hot_logits(torch.tensor([BALL, RIGHT, BALL])), 2)
    assert again[1] not in groups.tolist() and again[0] == groups[0]


def test_what_hides_behind_an_instance_is_removed_with_it_and_never_shown(scenery):
    at = torch.tensor(TWO[0]) + Balls().shift
    behind = at + 0.45 * (at - SPACE.from_world(CAMERAS.center(1))) / (at - SPACE.from_world(CAMERAS.center(1)))[2].abs()
    group = scenery.regions.groups(behind[None], one_hot_logits(torch.tensor([BALL])), 1)
    assert scenery.select(["ball"], [], "e").moving[group] and scenery.regions.moving.never_seen[group]


def test_what_the_cameras_never_see_is_no_instance():
    """A ball behind the wall is in the field, but in no picture."""
    renderer = renderer_of(Balls(centres=(TWO[1], (0.0, 0.0, -0.85)), radius=0.12))
    found = find_regions(renderer, "toy", LABELS)
    assert [item.name for item in found.instances if item.moves] == ["ball#1"]


def test_haze_beside_what_the_camera_sees_of_an_instance_is_none_of_it(monkeypatch):
    """However near it is to the instance."""
    monkeypatch.setattr(module, "REACH", 12.0)
    renderer = renderer_of(Balls(centres=TWO, radius=0.12))
    regions = find_regions(renderer, "toy", LABELS)
    own = Scenery(renderer, "toy", regions).at_pixel(*pixel_of(TWO[0]), 1, "e").group
    u, v = pixel_of(TWO[0])
    seen = renderer.render("toy", CAMERAS, 1, 1.0, frozenset({"semantic"})).labels == BALL
    top = int(seen[:, int(u)].nonzero().min())
    off = torch.tensor([[u, top - 1.5], [u, top - 0.5], [u, v]])  # the second is in the pixel beside it, the last on it
    at = SPACE.to_world(torch.tensor(TWO[0]) + Balls().shift)
    points = SPACE.from_world(CAMERAS.lift(off, CAMERAS.depth(at, 1).expand(3), 1))
    groups = regions.groups(points, one_hot_logits(torch.tensor([BALL] * 3)), 1).tolist()
    assert groups == [regions.moving.rest_of(BALL), own, own]


def test_a_camera_denies_only_what_it_looks_through():
    """A wall half way along every ray of frame 1, a ball seen in a pixel of it, and a class that frame does not show."""
    u, labels = torch.full((4, 18, 24), 0.5), torch.full((4, 18, 24), WALL)
    labels[1, 9, 12] = BALL
    surfaces = Surfaces(u, labels, CAMERAS, SPACE)
    origins, along = SPACE.cut_rays(CAMERAS.center(1).expand(3, 3), CAMERAS.directions(1, torch.tensor(
        [[5.5, 9.5], [13.5, 9.5], [12.5, 9.5]])))  # beside the ball, in its rim, on it
    before, behind = origins + 0.4 * along, origins + 0.52 * along
    assert surfaces.deny(before, BALL, 1).tolist() == [True, False, False]
    assert not surfaces.deny(behind, BALL, 1).any()  # a thing that another hides, touching its back
    assert not surfaces.deny(before, BALL, 2).any() and not surfaces.deny(before, RIGHT, 1).any()  # too thin to be seen
    assert not surfaces.deny(before + torch.tensor([9.0, 0.0, 0.0]), BALL, 1).any()  # out of view


def pixel_of(centre) -> list[float]:
    """Where camera 1 sees the centre of a ball at its time."""
    return CAMERAS.project(SPACE.to_world(torch.tensor(centre) + Balls().shift), 1)[0].tolist()


def test_targets(scenery):
    assert names(scenery.select(["moving"], [], "e")) == (list(range(scenery.regions.moving.groups)), [])
    first, second = (names(scenery.select([f"ball#{n}"], [], "e"))[0] for n in (1, 2))
    assert len(first) == len(second) == 2 and not set(first) & set(second)
    for same in ("ball", str(BALL)):
        assert names(scenery.select([same], [], "e"))[0] == sorted(first + second)
    assert names(scenery.select(["ball#1", "ball#2"], [], "e"))[0] == sorted(first + second)
    assert names(scenery.select(["#1"], [], "e"))[0] == first
    assert names(scenery.select(["right"], [], "e"))[1] and not names(scenery.select(["right"], [], "e"))[0]
    assert scenery.select(["twin", "ball#1"], ["twin"], "e").copies == {"twin"}


def test_a_pixel_names_the_instance_that_it_shows(scenery):
    for centre in TWO:
        at = SPACE.to_world(torch.tensor(centre) + Balls().shift)
        x, y = CAMERAS.project(at, 1)[0].tolist()
        item = scenery.at_pixel(x, y, 1, "e")
        assert item.moves and (item.centres[1] - at)[:2].norm() < 0.1 * SPACE.scale
        assert names(scenery.select([f"{x:.1f},{y:.1f}@1"], [], "e"))[0] == [item.group, item.group + 1]
    assert scenery.at_pixel(23, 17, 1, "e").name == "right#1"


@pytest.mark.parametrize(("target", "message"), [
    ("ballon", r"'ballon': is nothing in scene toy; name one of ball, wall, right, ball#1"), ("ball#3", r"is nothing in"),
    ("99,3@0", r"has 4 frames of 24x18"), ("3,3@4", r"has 4 frames")])
def test_unknown_targets_are_one_line(scenery, target, message):
    with pytest.raises(ConfigError, match=r"^edits\[0\].what = .*" + message):
        scenery.select([target], [], "edits[0].what")


def test_a_class_that_is_not_seen_is_said_so():
    renderer = renderer_of(Balls(radius=0.0))
    scenery = Scenery(renderer, "toy", find_regions(renderer, "toy", LABELS))
    with pytest.raises(ConfigError, match="this class is not to be seen in scene toy; it holds wall, right"):
        scenery.select(["ball"], [], "e")


def test_components_and_their_sizes(monkeypatch):
    monkeypatch.setattr(module, "LEAST_CELLS", 2)
    zeros = torch.zeros(7, dtype=torch.int64)
    cells = Cells(zeros, torch.arange(7), torch.zeros(7, 3), zeros, torch.ones(7))
    component = connected(cells, torch.tensor([[1, 3, 5, 5], [2, 6, 6, 4]]))
    assert component.tolist() == [0, 1, 1, 3, 3, 3, 3]
    assert large_regions(component) == [3, 1]
    assert large_regions(component[:0]) == []


def test_a_still_ball_that_another_passes_keeps_its_number():
    """Things are joined along the flow, not by nearness at other times: the first comes to where the second was."""
    row = Balls(centres=((-0.4, 0.0, 0.0), (0.0, 0.0, 0.0)), radius=0.1, velocity=(0.1, 0.0, 0.0))
    far = find_regions(renderer_of(row), "toy", LABELS)
    assert [item.name for item in far.instances if item.moves] == ["ball#1", "ball#2"]
