"""The check finds everything in one pass."""

import numpy as np
from layout_fixture import problems_of, write_image, write_scene, write_truth

from semflow.config.schema import DataConfig
from semflow.data.check import check_scene


def test_a_good_scene_has_no_problem_and_a_summary(tmp_path):
    write_scene(tmp_path)
    write_truth(tmp_path, tmp_path)
    assert problems_of(tmp_path) == []
    summary = check_scene(DataConfig(dir=str(tmp_path)), "Tiny").summary
    assert "3 frames of 8x6" in summary and "4 classes (may move: ball, person)" in summary
    assert "3 labelled frames" in summary and "truth: colour and labels" in summary


def test_all_problems_of_all_scenes_at_once(tmp_path):
    first, second = write_scene(tmp_path, "A"), write_scene(tmp_path, "B")
    write_truth(tmp_path, tmp_path, "B")
    (first / "images_2/001.png").write_bytes(b"")
    np.save(first / "disp/000.npy", np.full((6, 8), np.inf))
    (first / "motion_masks/002.png").unlink()
    (first / "flow/000_fwd.npz").write_bytes(b"PK")
    (first / "poses_bounds.npy").unlink()
    (tmp_path / "foreground_object.txt").write_text("ball\ndog\n")
    write_image(second / "SegmentationClass_train/002.png", np.full((12, 16, 3), 9, dtype=np.uint8))
    (second / "multiview_GT/00000002/cam01.png").write_bytes(b"x")
    (second / "multiview_GT_semantic/00000003/cam03.png").unlink()
    found = sorted(str(problem.path.relative_to(tmp_path)) for problem in problems_of(tmp_path))
    assert found == [
        "A/disp/000.npy",
        "A/flow/000_fwd.npz",
        "A/images_2/001.png",
        "A/motion_masks/002.png",
        "A/poses_bounds.npy",
        "B/SegmentationClass_train/002.png",
        "B/multiview_GT/00000002/cam01.png",
        "B/multiview_GT_semantic/00000003/cam03.png",
        "foreground_object.txt",
    ]
    assert {str(p.path.relative_to(tmp_path)) for p in problems_of(tmp_path, ["B"])} == {f for f in found if f[0] != "A"}


def test_images_that_loading_leaves_closed_are_checked(tmp_path):
    scene = write_scene(tmp_path)
    (scene / "images/002.png").write_bytes(b"x")
    assert [problem.path for problem in problems_of(tmp_path)] == [scene / "images/002.png"]
    write_scene(tmp_path)
    for frame in range(3):
        write_image(scene / f"images_4/{frame:03d}.png", np.zeros((6, 4, 3), dtype=np.uint8))
    assert ["aspect" in problem.what for problem in problems_of(tmp_path)] == [True]


def test_labels_are_checked_without_a_label_map(tmp_path):
    scene = write_scene(tmp_path)
    (tmp_path / "labelmap.txt").unlink()
    (scene / "SegmentationClass_train/000.png").write_bytes(b"x")
    assert {problem.path.name for problem in problems_of(tmp_path)} == {"labelmap.txt", "000.png"}


def test_configured_frames_are_followed(tmp_path):
    scene = write_scene(tmp_path)
    (scene / "SegmentationClass_train/002.png").write_bytes(b"x")
    assert problems_of(DataConfig(dir=str(tmp_path), scenes=("Tiny",), labelled_frames="0-1")) == []
    assert len(problems_of(DataConfig(dir=str(tmp_path), scenes=("Tiny",)))) == 1


def test_roots_that_hold_no_scene(tmp_path):
    scene = write_scene(tmp_path / "root")
    assert "no such folder" in problems_of(tmp_path / "none")[0].what
    assert "--scene Tiny" in problems_of(scene)[0].remedy
    assert "holds no scene folder" in problems_of(scene / "disp")[0].what
    assert "Tiny" in problems_of(tmp_path / "root", ["Tony"])[0].remedy
