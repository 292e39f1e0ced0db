"""Edits measured in closed form: a moved ball against a field with the ball there."""

import pytest
import torch
from edit_toys import CAMERAS, LABELS, SPACE, Balls, ToyRun, renderer_of, shot
from toys import make_scene

from semflow.records import MultiViewTruth, View
from semflow.tasks.editing.edit_file import checked_edit
from semflow.tasks.editing.measure import WIDENED, Case, measure, rendered, true_view, views_of, widened
from semflow.tasks.editing.regions import find_regions
from semflow.tasks.editing.selection import Scenery

PLACE = (-0.25, 0.05, 0.1)


def scene_of(*centres, brighter: float = 0.0):
    """A scene whose truth are renderings of balls at the centres."""
    renderer = renderer_of(Balls(centres=centres) if centres else Balls(radius=0.0))
    truth = MultiViewTruth(4, 4, lambda time, camera: shot(renderer, time=float(time), camera=camera).rgb + brighter,
                           lambda time, camera: shot(renderer, time=float(time), camera=camera).labels)
    return make_scene(CAMERAS, space=SPACE, label_map=LABELS, truth=truth)


@pytest.fixture(scope="module")
def scores():
    """scores(record, truth) of two views."""
    loaded = ToyRun(renderer_of())
    scenery = Scenery(loaded.renderer, "toy", find_regions(loaded.renderer, "toy", LABELS))

    def scores(record, truth):
        case = Case("ball", checked_edit(record, "e"), truth, "case")
        return measure(loaded, scenery, scene_of(PLACE), case, views_of(4)[:2])

    return scores


def test_a_perfect_edit_changes_nothing_outside(scores):
    found, pictures = scores({"do": "remove", "what": "ball"}, scene_of())
    assert found.inside > 60 and found.unedited < 20 and found.reached > 60
    assert found.changed == found.changed_share == 0.0 and found.overlap is None
    assert len(pictures) == 2 and len(pictures[0]) == 3 and found.pixels > 10


def test_the_right_and_the_wrong_way(scores):
    truth = scene_of((0.05, 0.05, 0.1))
    right, wrong = (scores({"do": "move", "what": "ball", "by": [x * SPACE.scale, 0.0, 0.0]}, truth)[0] for x in (0.3, -0.05))
    assert right.inside > 30 and right.overlap > 0.95
    assert wrong.inside < 20 and wrong.overlap < 0.2


def test_what_differs_everywhere_is_what_the_run_reaches(scores):
    found, _ = scores({"do": "remove", "what": "ball"}, scene_of(brighter=0.1))
    assert found.inside == pytest.approx(20.0, abs=0.1) and found.reached == pytest.approx(20.0, abs=0.1)


def test_views_are_every_time_twice():
    assert views_of(4) == [(0, 0), (2, 0), (1, 1), (3, 1), (0, 2), (2, 2), (1, 3), (3, 3)]


def test_masks_are_widened_evenly():
    mask = torch.zeros(21, 21, dtype=torch.bool)
    mask[10, 10] = True
    wide = widened(mask)
    assert wide[10].sum() == wide[:, 10].sum() == 2 * WIDENED + 1 and not wide[10 - WIDENED, 10 - WIDENED]


def test_truth_that_is_read_onto_the_cpu_is_compared_on_the_device_of_the_run():
    """As on a GPU; meta tensors hold no values, but cannot be mixed with others either."""
    class Elsewhere:
        def render(self, scene, cameras, camera, time, what):
            size = (cameras.height, cameras.width)
            return View(rgb=torch.zeros(*size, 3, device=cameras.c2w.device), logits=torch.zeros(*size, 3, device=cameras.c2w.device))

    original, truth = scene_of(PLACE).to("meta"), scene_of()
    view = rendered(Elsewhere(), "toy", original, 1, 0)
    colours, was, should = true_view(original, Case("ball", checked_edit({"do": "remove", "what": "ball"}, "e"), truth, "case"),
                                     1, 0, view.rgb.device)
    assert (view.rgb - colours).is_meta and (was | should | (view.labels == 1)).is_meta
