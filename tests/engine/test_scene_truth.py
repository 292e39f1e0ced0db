"""The pairs that are evaluated, and where their truth comes from."""

import pytest
import torch
from evaluation_fakes import FRAMES, frame_labels, make_scene, true_labels, true_rgb

from semflow.engine.scene_truth import SceneTruth


def pairs_of(truth, **options):
    return [(pair.time, pair.camera) for pair in truth.pairs(**options)]


def test_pairs_go_camera_by_camera():
    expected = [(t, c) for c in range(FRAMES) for t in range(FRAMES)]
    assert pairs_of(SceneTruth(make_scene(), frame_labels()), with_unscored=False) == expected


def test_without_other_views_only_own_frames_have_truth():
    truth = SceneTruth(make_scene(views=False), frame_labels())
    assert pairs_of(truth, with_unscored=False) == [(t, t) for t in range(FRAMES)]
    every = truth.pairs(with_unscored=True)
    assert len(every) == FRAMES**2 and sum(pair.scored for pair in every) == FRAMES


@pytest.mark.parametrize("every", [2, 3, FRAMES, FRAMES + 1, 100])
def test_a_subset_is_fixed_and_holds_all_own_views_and_some_others(every):
    truth = SceneTruth(make_scene(), frame_labels())
    chosen = pairs_of(truth, with_unscored=False, every=every)
    assert chosen == pairs_of(truth, with_unscored=False, every=every) == sorted(chosen, key=lambda p: p[::-1])
    own = [pair for pair in chosen if pair[0] == pair[1]]
    assert len(own) == FRAMES and len(chosen) - len(own) == -(-FRAMES * (FRAMES - 1) // every)


def test_truth_of_views_is_asked_by_time_then_camera():
    truth = SceneTruth(make_scene(), frame_labels())
    assert torch.equal(truth.rgb(3, 1), true_rgb(3, 1)) and torch.equal(truth.labels(3, 1), true_labels(3, 1))


def test_truth_of_own_frames_includes_those_unlabelled_in_training():
    truth = SceneTruth(make_scene(labelled=(0,), views=False), frame_labels())
    assert torch.equal(truth.labels(3, 3), true_labels(3, 3))
    assert SceneTruth(truth.scene, truth.scene.labels).labels(3, 3) is None
    assert truth.seen(None).labelled == (0,)


def test_views_without_label_truth_are_judged_on_own_frames():
    truth = SceneTruth(make_scene(label_views=False), frame_labels())
    assert truth.labels(3, 1) is None and torch.equal(truth.labels(1, 1), true_labels(1, 1))


def test_truth_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="toy"):
        SceneTruth(make_scene(), frame_labels()[:2])
