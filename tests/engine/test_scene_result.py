"""Figures by distance, per class and with intervals, of renderers that are wrong in known images."""

import json

import pytest
from evaluation_fakes import FRAMES, PerfectRenderer, SeenFramesRenderer, frame_labels, make_scene

from semflow.engine.copying import CopyingRenderer
from semflow.engine.evaluator import evaluate
from semflow.engine.protocols import PROTOCOLS
from semflow.engine.scene_result import OTHER_CAMERAS, OWN_CAMERA, nearest
from semflow.metrics.statistics import Interval, bootstrap_interval, stratified_interval

CORRECTED = PROTOCOLS["corrected"]


def run(tmp_path, renderer, *scenes, protocol=CORRECTED, **options):
    truth = {scene.name: frame_labels() for scene in scenes}
    return evaluate(renderer, scenes, tmp_path, protocol, progress=False, truth_labels=truth, **options)


def written(tmp_path, protocol=CORRECTED) -> dict:
    return json.loads((tmp_path / protocol.name / "metrics.json").read_text())


def counts(bins) -> dict:
    """Distance -> number of images for colours, for labels."""
    return {distance: (group.images, group.labelled_images) for distance, group in bins.items()}


def test_nearest_is_0_at_a_frame_itself_and_nothing_without_frames():
    assert [nearest(time, (0, 1, 11)) for time in (0, 2, 6, 7, 10, 11)] == [0, 1, 5, 4, 1, 0]
    assert nearest(3, ()) is None


def test_images_are_binned_by_the_distance_of_their_time(tmp_path):
    """Labels of frame 0 and colours of frames 0 and 1; at every time there are 1 own and 3 other cameras."""
    wrong = {(2, 2), (0, 3), (3, 0)}
    result = run(tmp_path, SeenFramesRenderer(wrong), make_scene(labelled=(0,)), color_frames={"toy": (0, 1)})
    own, others = (result.scenes[0].distances[views] for views in (OWN_CAMERA, OTHER_CAMERAS))
    assert counts(own) == {0: (2, 1), 1: (1, 1), 2: (1, 1), 3: (0, 1)}
    assert counts(others) == {0: (6, 3), 1: (3, 3), 2: (3, 3), 3: (0, 3)}
    assert [own[distance].ours.metrics["miou"] for distance in range(4)] == [1.0, 1.0, pytest.approx(bad(result, 2, 2)), 1.0]
    for distance, pair in ((0, (0, 3)), (3, (3, 0))):
        assert others[distance].ours.metrics["miou"] == pytest.approx((2 + bad(result, *pair)) / 3)
    assert others[1].ours.metrics["miou"] == others[2].ours.metrics["miou"] == 1.0
    bins = written(tmp_path)["scenes"]["toy"]["distances"]["other_cameras"]
    assert [entry["distance"] for entry in bins] == [0, 1, 2, 3]
    assert bins[3]["ours"]["psnr"] is None and bins[3]["copying"]["miou"] == others[3].copying.metrics["miou"]


def bad(result, time, camera) -> float:
    """Mean IoU of one image, below 1/2 where it is all wall."""
    image = next(image for image in result.scenes[0].images if (image.time, image.camera) == (time, camera))
    assert image.ours.metrics["miou"] < 0.5
    return image.ours.metrics["miou"]


def test_between_labelled_frames_the_nearer_one_counts(tmp_path):
    result = run(tmp_path, PerfectRenderer(), make_scene(labelled=(0, 3), views=False))
    assert counts(result.scenes[0].distances[OWN_CAMERA]) == {0: (4, 2), 1: (0, 2)}
    assert result.scenes[0].distances[OTHER_CAMERAS] == {}


def test_without_labelled_frames_no_label_has_a_distance(tmp_path):
    result = run(tmp_path, PerfectRenderer(), make_scene(labelled=()))
    assert counts(result.scenes[0].distances[OTHER_CAMERAS]) == {0: (12, 0)}
    assert "By distance" not in result.table


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_classes_are_scored_from_one_matrix_in_both_protocols(tmp_path, protocol):
    """One of four own images is all wall: the ball (16 pixels) and the floor (64) lose a quarter, the wall (112) gains."""
    result = run(tmp_path, SeenFramesRenderer({(3, 3)}), make_scene(), protocol=protocol)
    found = written(tmp_path, protocol)["scenes"]["toy"]["groups"]["training"]["ours"]["classes"]
    assert result.scenes[0].groups["training"].ours.classes["ball"].iou == pytest.approx(0.75)
    assert found["ball"] == found["floor"] == {"iou": 0.75, "accuracy": 0.75, "images": 4}
    assert found["wall"] == {"iou": pytest.approx(4 * 112 / (4 * 112 + 80)), "accuracy": 1.0, "images": 4}
    assert found["bird"] == {"iou": None, "accuracy": None, "images": 0}


def test_intervals_are_those_of_the_images_of_a_group(tmp_path):
    scenes = make_scene("one"), make_scene("other", labelled=(0, 1))
    result = run(tmp_path, SeenFramesRenderer({(3, 1), (2, 0)}), *scenes)
    content = written(tmp_path)
    values = {}
    for scene in scenes:
        images = [i for i in content["scenes"][scene.name]["images"] if i["label_group"] == "held_out"]
        values[scene.name] = [i["ours"]["miou"] - i["copying"]["miou"] for i in images]
        expected = bootstrap_interval(values[scene.name])
        found = content["scenes"][scene.name]["intervals"]["held_out"]["difference"]["miou"]
        assert found == vars(expected) and found["count"] == len(images)
    expected = vars(stratified_interval(list(values.values())))
    assert content["mean_intervals"]["held_out"]["difference"]["miou"] == expected
    assert content["mean_intervals"]["held_out"]["ours"]["lpips"] is None
    assert result.intervals["held_out"]["ours"]["psnr"] == Interval(100.0, 100.0, 100.0, 24)


def test_the_difference_to_copying_is_paired(tmp_path):
    """Copying itself differs from image to image, but never from copying."""
    scene = make_scene()
    found = run(tmp_path, CopyingRenderer({"toy": scene}), scene).scenes[0].intervals["held_out"]
    assert found["ours"] == found["copying"] and found["ours"]["miou"].high - found["ours"]["miou"].low > 0.02
    assert found["difference"]["miou"] == Interval(0.0, 0.0, 0.0, 12)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_tables_keep_within_125_columns(tmp_path, protocol):
    scenes = make_scene("Balloon1", labelled=(0,)), make_scene("Balloon2", labelled=(0, 1))
    table = run(tmp_path, SeenFramesRenderer({(3, 1), (3, 0)}), *scenes, protocol=protocol).table
    lines = table.splitlines()
    assert max(map(len, lines)) <= 125
    distances = [line.split() for line in lines if line.startswith("Balloon1  others")]
    assert [words[2:4] for words in distances] == [["0", "12/3"], ["1", "0/3"], ["2", "0/3"], ["3", "0/3"]]
    ball = next(line.split() for line in lines if line.startswith("Balloon1  ball"))
    assert ball[2] == str(FRAMES**2 if protocol.name == "paper" else 9)
    assert any(line.startswith("mean      ours - copying  ") and line.count("[") == 4 for line in lines)


def test_a_table_by_distance_needs_distances(tmp_path):
    assert "By distance" not in run(tmp_path, PerfectRenderer(), make_scene()).table
    assert "By distance" in run(tmp_path, PerfectRenderer(), make_scene(labelled=(0, 1))).table


def test_nothing_held_out_has_no_interval_and_no_classes(tmp_path):
    table = run(tmp_path, PerfectRenderer(), make_scene(views=False)).table
    assert "Per class" not in table and "95 % intervals" not in table


def test_a_single_image_has_a_mean_but_no_interval(tmp_path):
    result = run(tmp_path, PerfectRenderer(), make_scene(labelled=range(FRAMES - 1), views=False))
    assert result.scenes[0].intervals["held_out"]["ours"]["miou"] == Interval(1.0, None, None, 1)
    assert any(line.split() == ["toy", "ours", "1.000", "1.000"] for line in result.table.splitlines())
