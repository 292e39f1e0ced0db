"""The whole evaluation with renderers whose scores are known."""

import json
from dataclasses import replace

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from evaluation_fakes import (
    BALL,
    FRAMES,
    HEIGHT,
    WIDTH,
    PerfectRenderer,
    SeenFramesRenderer,
    frame_labels,
    make_scene,
    true_labels,
    true_rgb,
)

from semflow.engine.copying import CopyingRenderer
from semflow.engine.evaluator import evaluate
from semflow.engine.protocols import PROTOCOLS
from semflow.records import View
from semflow.utils.errors import CheckpointError, ConfigError

CORRECTED, PAPER = PROTOCOLS["corrected"], PROTOCOLS["paper"]
OTHERS = [(t, c) for t in range(FRAMES) for c in range(FRAMES) if t != c]


def run(tmp_path, renderer, *scenes, protocol=CORRECTED, **options):
    scenes = scenes or (make_scene(),)
    return evaluate(renderer, scenes, tmp_path, protocol, progress=False, **options)


def metric(result, group, key, who="ours"):
    return result.means[group][who][key]


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_a_perfect_renderer_scores_one_and_a_finite_psnr(tmp_path, protocol):
    result = run(tmp_path, PerfectRenderer(), protocol=protocol)
    assert result.headline["psnr"] == protocol.psnr_cap
    for key in ("ssim", "miou", "miou_foreground", "accuracy", "class_accuracy"):
        assert result.headline[key] == pytest.approx(1.0)
    if protocol.scene_metrics:
        for key in ("scene_miou", "scene_miou_foreground", "scene_miou_foreground_classes", "boundary_iou", "j", "f"):
            assert result.headline[key] == pytest.approx(1.0)


def test_copying_is_scored_by_the_same_code_and_is_worse_on_other_views(tmp_path):
    scene = make_scene()
    result = run(tmp_path, CopyingRenderer({"toy": scene}), scene)
    held_out = result.means["held_out"]
    assert held_out["ours"] == held_out["copying"]
    assert held_out["copying"]["scene_miou_foreground_classes"] < 0.6
    assert metric(result, "training", "miou", "copying") == pytest.approx(1.0)


def test_copying_scores_what_counting_by_hand_gives(tmp_path):
    """The ball (4 x 4) is copied |c - t| pixels beside its place."""
    result = run(tmp_path, PerfectRenderer())
    overlap = sum(4 * (4 - abs(c - t)) for t, c in OTHERS)
    union = sum(4 * (4 + abs(c - t)) for t, c in OTHERS)
    assert metric(result, "held_out", "scene_miou_foreground_classes", "copying") == pytest.approx(overlap / union)
    per_image = [(4 - abs(c - t)) / (4 + abs(c - t)) for t, c in OTHERS]
    assert metric(result, "held_out", "j", "copying") == pytest.approx(np.mean(per_image))
    background = [(HEIGHT * WIDTH - 16 - 4 * abs(c - t)) / (HEIGHT * WIDTH - 16 + 4 * abs(c - t)) for t, c in OTHERS]
    expected = np.mean([(one + other) / 2 for one, other in zip(per_image, background)])
    assert metric(result, "held_out", "miou_foreground", "copying") == pytest.approx(expected)


def test_frames_numbered_from_1_change_every_result(tmp_path):
    right, wrong = run(tmp_path, PerfectRenderer()), run(tmp_path, PerfectRenderer(shift=1))
    for key in ("psnr", "ssim", "miou", "miou_foreground", "scene_miou_foreground_classes", "j_and_f"):
        assert wrong.headline[key] < right.headline[key]


def test_corrected_judges_neither_training_pairs_nor_labelled_times(tmp_path):
    scene = make_scene(labelled=(0, 1, 2))
    unlabelled = {(3, c) for c in range(3)}
    judged = SeenFramesRenderer({(t, c) for t in range(FRAMES) for c in range(FRAMES)} - unlabelled)
    assert run(tmp_path, judged, scene).headline["miou"] == pytest.approx(1.0)
    assert run(tmp_path, SeenFramesRenderer(unlabelled), scene).headline["miou"] < 0.5
    assert run(tmp_path, SeenFramesRenderer({(2, 0)}), scene).headline["miou"] == pytest.approx(1.0)
    result = run(tmp_path, SeenFramesRenderer({(1, 1)}), scene)
    assert result.headline["miou"] == pytest.approx(1.0) and metric(result, "training", "miou") < 1.0
    group = result.scenes[0].groups["held_out"]
    assert (group.images, group.labelled_images) == (12, 3)


def test_paper_counts_training_pairs_too(tmp_path):
    result = run(tmp_path, SeenFramesRenderer({(1, 1)}), protocol=PAPER)
    assert result.headline["miou"] < 1.0 and metric(result, "held_out", "miou") == pytest.approx(1.0)
    assert result.scenes[0].groups["all"].images == FRAMES**2


def test_without_views_unlabelled_frames_are_held_out(tmp_path):
    scene = make_scene(labelled=(0, 1), views=False)
    result = run(tmp_path, SeenFramesRenderer({(3, 3)}), scene, truth_labels={"toy": frame_labels()})
    held_out, training = result.scenes[0].groups["held_out"], result.scenes[0].groups["training"]
    assert (held_out.images, held_out.labelled_images) == (0, 2)
    assert (training.images, training.labelled_images) == (4, 2)
    assert metric(result, "training", "miou") == 1.0 and 0.5 < metric(result, "held_out", "miou") < 1.0
    assert metric(result, "held_out", "miou", "copying") < 1.0
    known = {"truth_labels": {"toy": frame_labels()}, "color_frames": {"toy": (0, 1)}}
    assert run(tmp_path, PerfectRenderer(), scene, **known).scenes[0].groups["held_out"].images == 2


def test_without_held_out_images_the_table_says_so(tmp_path):
    result = run(tmp_path, PerfectRenderer(), make_scene(views=False))
    assert result.scenes[0].groups["held_out"] is None and result.headline["psnr"] is None
    assert "no held-out images" in result.table and metric(result, "training", "psnr") == 100.0


def test_background_classes_are_merged_in_foreground_mode(tmp_path):
    class SwapsWallAndFloor(PerfectRenderer):
        def render(self, *args):
            view = super().render(*args)
            return replace(view, logits=view.logits[..., [2, 1, 0, 3]])

    result = run(tmp_path, SwapsWallAndFloor())
    assert result.headline["miou"] == pytest.approx(1 / 3)
    assert result.headline["miou_foreground"] == result.headline["scene_miou_foreground_classes"] == 1.0


def test_a_foreground_class_that_is_absent_neither_helps_nor_breaks(tmp_path):
    """Class 3 is foreground and nowhere to be seen; a scene may also have no foreground, or class 0 as one."""
    assert run(tmp_path, PerfectRenderer()).scenes[0].groups["held_out"].ours.objects.keys() == {"ball"}
    bare = run(tmp_path, PerfectRenderer(), make_scene(foreground=()))
    assert bare.headline["j"] is None and bare.headline["miou_foreground"] == 1.0
    zero = run(tmp_path, PerfectRenderer(), make_scene(foreground=(0, BALL)))
    assert zero.headline["miou_foreground"] == 1.0
    assert zero.scenes[0].groups["held_out"].ours.objects.keys() == {"wall", "ball"}


def test_means_are_over_images_then_over_scenes(tmp_path):
    one, other = make_scene("one", views=False), make_scene("other")

    class WrongInOne(SeenFramesRenderer):
        def render(self, scene, *args):
            self.wrong = {(t, t) for t in range(FRAMES)} if scene == "one" else set()
            return super().render(scene, *args)

    result = run(tmp_path, WrongInOne(()), one, other, protocol=PAPER)
    bad = result.scenes[0].groups["all"].ours.metrics["miou"]
    assert bad < 0.5 and metric(result, "all", "miou") == pytest.approx((bad + 1.0) / 2)
    assert "mean" in result.table


def test_flow_is_judged_where_truth_is_given(tmp_path):
    truth = torch.zeros(HEIGHT, WIDTH, 2), torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    result = run(tmp_path, PerfectRenderer(), truth_flow={"toy": lambda time, camera: truth if time < 3 else None})
    assert result.headline["flow_epe"] == pytest.approx(2**0.5)
    assert metric(result, "held_out", "flow_epe", "copying") == 0.0
    assert run(tmp_path, PerfectRenderer()).headline["flow_epe"] is None
    assert "the scenes hold no truth of the scene motion" in (tmp_path / "corrected" / "table.txt").read_text()


def test_a_renderer_without_motion_is_not_said_to_lack_the_truth(tmp_path):
    class Motionless(PerfectRenderer):
        def render(self, *arguments):
            return replace(super().render(*arguments), flow=None)

    truth = torch.zeros(HEIGHT, WIDTH, 2), torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    result = run(tmp_path, Motionless(), truth_flow={"toy": lambda time, camera: truth})
    assert result.headline["flow_epe"] is None and "what is judged renders no scene motion" in result.table


def test_metrics_json_holds_every_choice_and_every_image(tmp_path):
    result = run(tmp_path, PerfectRenderer(), make_scene(labelled=(0, 1, 2)))
    content = json.loads((tmp_path / "corrected" / "metrics.json").read_text())
    assert content["protocol"] == json.loads(json.dumps(CORRECTED.to_json()))
    assert content["subset"] == {"every": 1, "images": 16, "of": 16}
    assert content["mean"]["held_out"]["ours"]["miou"] == 1.0
    scene = content["scenes"]["toy"]
    assert scene["labelled_frames"] == [0, 1, 2] and scene["foreground"] == ["ball", "bird"]
    assert scene["groups"]["held_out"]["copying"]["classes"]["bird"] == {"iou": None, "accuracy": None, "images": 0}
    order = [(image["camera"], image["time"]) for image in scene["images"]]
    assert order == [(c, t) for c in range(4) for t in range(4)]
    first = scene["images"][3]
    assert (first["color_group"], first["label_group"]) == ("held_out", "held_out")
    assert {"psnr", "ssim", "lpips", "miou", "boundary_iou"} <= first["ours"].keys() == first["copying"].keys()
    assert (tmp_path / "corrected" / "table.txt").read_text().strip() == result.table.strip()
    assert not list(tmp_path.rglob(".*"))


def test_saved_pictures_have_the_promised_names_and_formats(tmp_path):
    run(tmp_path, PerfectRenderer(), save=True)
    folder = tmp_path / "corrected" / "toy"
    names = {f"t{t:03d}_c{c:03d}_{kind}.png" for t in range(4) for c in range(4) for kind in ("rgb", "labels")}
    assert {path.name for path in folder.iterdir()} == names | {"overview.png"}
    rgb, labels = imageio.imread(folder / "t003_c001_rgb.png"), imageio.imread(folder / "t003_c001_labels.png")
    assert rgb.shape == (HEIGHT, WIDTH, 3) and rgb.dtype == labels.dtype == np.uint8
    assert np.abs(rgb / 255.0 - true_rgb(3, 1).numpy()).max() <= 0.5 / 255 + 1e-6
    assert (labels == true_labels(3, 1).numpy()).all() and labels.shape == (HEIGHT, WIDTH)


def test_views_of_an_earlier_evaluation_do_not_stay_beside_new_figures(tmp_path):
    folder = tmp_path / "corrected" / "toy"
    run(tmp_path, PerfectRenderer(), save=True)
    for name in ("t009_c001_rgb.png", "mine_t000_c000_rgb.png", "t000_c000_rgb.png.txt"):
        (folder / name).touch()
    run(tmp_path, PerfectRenderer(), save=True)
    assert len(list(folder.glob("t*_c*_*.png"))) == 2 * FRAMES**2  # not the one of another scene with more frames
    run(tmp_path, PerfectRenderer())
    assert {path.name for path in folder.iterdir()} == {"overview.png", "mine_t000_c000_rgb.png", "t000_c000_rgb.png.txt"}


def test_without_truth_of_views_saving_still_writes_them(tmp_path):
    run(tmp_path, PerfectRenderer(), make_scene(views=False), save=True)
    assert len(list((tmp_path / "corrected" / "toy").glob("t*_rgb.png"))) == FRAMES**2


def test_without_saving_only_the_overview_is_drawn(tmp_path):
    run(tmp_path, PerfectRenderer())
    assert [path.name for path in (tmp_path / "corrected" / "toy").iterdir()] == ["overview.png"]
    sheet = imageio.imread(tmp_path / "corrected" / "toy" / "overview.png")
    assert sheet.shape[0] > 4 * HEIGHT and sheet.shape[1] > 4 * WIDTH


def test_the_renderer_is_asked_camera_by_camera(tmp_path):
    renderer = PerfectRenderer()
    run(tmp_path, renderer)
    assert renderer.asked == [("toy", c, float(t)) for c in range(FRAMES) for t in range(FRAMES)]


def test_a_subset_is_named_in_the_table_and_the_file(tmp_path):
    result = run(tmp_path, PerfectRenderer(), every=3)
    content = json.loads((tmp_path / "corrected" / "metrics.json").read_text())
    assert content["subset"] == {"every": 3, "images": 8, "of": 16}
    assert "one in 3 views of other cameras: 8 of 16" in result.table
    with pytest.raises(ConfigError, match="every = 0"):
        run(tmp_path, PerfectRenderer(), every=0)


def test_the_table_prints_ours_beside_copying_and_every_choice(tmp_path):
    result = run(tmp_path, PerfectRenderer())
    line = next(line for line in result.table.splitlines() if line.startswith("toy") and "held-out" in line)
    assert f"100.00 ({metric(result, 'held_out', 'psnr', 'copying'):.2f})" in line and "12/12" in line
    for text in ("corrected-1", "training views", "LPIPS is not computed", "psnr_cap: 100.0", "c != t"):
        assert text in result.table


@pytest.mark.parametrize("view, message", [
    (View(rgb=torch.full((HEIGHT, WIDTH, 3), float("nan"))), "not finite"),
    (View(rgb=torch.zeros(3, WIDTH, 3)), "16x12"),
    (View(), "16x12"),
])
def test_what_is_no_image_is_one_clear_error(tmp_path, view, message):
    class Broken:
        def render(self, *args):
            return view

    with pytest.raises(CheckpointError, match=f"toy, time 0, camera 0.*{message}"):
        run(tmp_path, Broken())
    assert not (tmp_path / "corrected" / "metrics.json").exists()
