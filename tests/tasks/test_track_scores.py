"""Scores of tracks: exact flow is followed exactly, masks keep their shape, and what does not move scores as it should."""

from types import SimpleNamespace

import pytest
import torch
from toys import make_scene, sliding_cameras

from semflow.data.synthetic.tracks import TrackTruth
from semflow.tasks import track_scores
from semflow.tasks.track_scores import followed_by_flow, format_scores, rasterised, score_masks, score_points, unmoved

FRAMES, HEIGHT, WIDTH, STEP = 4, 12, 20, 3


def sliding_square(lost_at=None):
    """A square of class 1 that slides 3 pixels a frame to the right over class 0, with exact flow."""
    cameras = sliding_cameras(FRAMES, height=HEIGHT, width=WIDTH)
    labels = torch.zeros(FRAMES, HEIGHT, WIDTH, dtype=torch.int64)
    for time in range(FRAMES):
        labels[time, 4:8, 2 + STEP * time : 6 + STEP * time] = 1
    flow = torch.zeros(FRAMES, HEIGHT, WIDTH, 2)
    flow[..., 0] = STEP * (labels == 1)
    valid = torch.ones_like(labels, dtype=torch.bool)
    if lost_at is not None:
        valid[lost_at] = False
    return make_scene(cameras, labels=labels, flow_forward=flow, flow_backward=-flow, flow_forward_valid=valid,
                      flow_backward_valid=valid)


def test_exact_flow_carries_a_mask_exactly():
    scene = sliding_square()
    assert score_masks(followed_by_flow(scene), scene.labels, 0, (1, 2)) == {1: {"j": 1.0, "f": 1.0, "j_and_f": 1.0}}
    still = score_masks(unmoved(scene), scene.labels, 0, (1,))[1]
    assert still["j"] == pytest.approx((4 / 28 + 0 + 0) / 3)  # one of four columns is left after a step, none after two


def test_where_the_flow_is_not_consistent_a_track_is_lost_but_goes_on():
    scene = sliding_square(lost_at=1)
    uv, visible = followed_by_flow(scene)(0, torch.tensor([[3.5, 5.5]]))
    assert uv[0, :, 0].tolist() == [3.5, 6.5, 9.5, 12.5] and visible[0].tolist() == [True, True, False, False]
    assert score_masks(followed_by_flow(scene), scene.labels, 0, (1,))[1]["j"] == pytest.approx(1 / 3)


def test_tracks_run_backward_in_time_too():
    uv, visible = followed_by_flow(sliding_square())(3, torch.tensor([[12.5, 5.5]]))
    assert uv[0, :, 0].tolist() == [3.5, 6.5, 9.5, 12.5] and visible.all()


def test_frames_without_labels_are_left_out():
    scene = sliding_square()
    labels = scene.labels.clone()
    labels[2:] = -1
    assert score_masks(unmoved(scene), labels, 0, (1,))[1]["j"] == pytest.approx(4 / 28)


def test_gaps_between_points_are_closed_and_points_outside_dropped():
    points = torch.tensor([[2.5, 2.5], [4.5, 2.5], [2.5, 4.5], [4.5, 4.5], [-0.5, 1.5], [1.5, 99.0]])
    mask = rasterised(points, 8, 8)
    assert mask[2:5, 2:5].all() and int(mask.sum()) == 9


def test_points_are_scored_where_they_can_be_seen_but_not_at_the_start():
    truth = TrackTruth(torch.zeros(2, 3, 2), torch.tensor([[True, True, False], [True, True, True]]),
                       torch.tensor([True, False]), torch.tensor([True, True]))
    uv = torch.tensor([[[9.0, 9], [3, 4], [7, 7]], [[0.0, 0], [0, 1], [0, 2]]])
    score = score_points((uv, torch.ones(2, 3, dtype=torch.bool)), truth, 0, truth.hit)
    assert score.error.places == 3 and score.error.mean == pytest.approx((5 + 1 + 2) / 3) and score.error.median == 2
    assert score.error.within == {1: pytest.approx(1 / 3), 3: pytest.approx(2 / 3), 5: 1.0}
    assert score.by_time == [None, 3.0, 2.0] and score.visibility == pytest.approx(3 / 4)
    none = score_points((uv, truth.visible), truth, 0, torch.tensor([False, False]))
    assert none.error.mean is None and none.error.places == 0


def test_the_table_shows_masks_alone_where_there_is_no_truth():
    mask = {"ball": {"j": 0.5, "f": 0.25, "j_and_f": 0.375}}
    text = format_scores({"ours": {"points": {}, "masks": mask}, "flow": {"points": {}, "masks": {}}})
    lines = [line.split() for line in text.splitlines()]
    assert lines == [["mask", "by", "J", "F", "J&F"], ["ball", "ours", "0.500", "0.250", "0.375"],
                     ["mean", "ours", "0.500", "0.250", "0.375"]]


def test_true_tracks_are_scored_on_the_device_of_the_run(monkeypatch):
    """They are made on the CPU, and a run may be on a GPU; meta tensors stand for those of another device."""
    scene, seen = sliding_square().to("meta"), []
    pixels = HEIGHT * WIDTH
    truth = TrackTruth(torch.zeros(pixels, FRAMES, 2), torch.ones(pixels, FRAMES, dtype=torch.bool),
                       torch.ones(pixels, dtype=torch.bool), torch.ones(pixels, dtype=torch.bool))

    def score(followed, truth, start, chosen):
        seen.append({part.device.type for part in (*followed, *vars(truth).values(), chosen)})
        return track_scores.PointScore(None, [], 0.0)

    monkeypatch.setattr(track_scores, "score_points", score)
    monkeypatch.setattr(track_scores, "score_masks", lambda *_: {})
    monkeypatch.setattr(track_scores, "followed_by_flow", unmoved)
    monkeypatch.setattr(track_scores, "asdict", vars)
    tracker = SimpleNamespace(track=lambda start, uv: SimpleNamespace(
        uv=uv[:, None].expand(-1, FRAMES, -1), visible=torch.ones(len(uv), FRAMES, dtype=torch.bool, device=uv.device)))
    track_scores.score_tracks(tracker, scene, scene.labels, 0, truth)
    assert seen == [{"meta"}] * 6
