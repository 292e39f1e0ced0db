"""Loading whole scenes: known values of a tiny one, the scenes of other programs, and every way to break one."""

import os
import shutil
import warnings
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from layout_fixture import (
    COLORS,
    FLOW,
    H,
    T,
    W,
    frame_image,
    half_image,
    label_ids,
    poses_bounds,
    problems_of,
    truth_color,
    write_classes,
    write_flow,
    write_image,
    write_labels,
    write_scene,
    write_truth,
)

from semflow.config.schema import DataConfig
from semflow.data.loader import load_scene
from semflow.geometry.spaces import MetricSpace, NdcSpace
from semflow.utils.errors import ConfigError, DataError

SHARED = Path(os.environ.get("SEMFLOW_SHARED", Path(__file__).resolve().parents[2] / ".." / "shared" / "scenes"))
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the shared scenes are not at {SHARED}")


def _load(root, **settings):
    return load_scene(DataConfig(dir=str(root), **settings), "Tiny")


def _same(first, second) -> bool:
    names = (
        "rgb",
        "disparity",
        "motion",
        "flow_forward",
        "flow_forward_valid",
        "flow_backward",
        "flow_backward_valid",
        "labels",
    )
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in names)


def test_values_at_half_size(tmp_path):
    write_scene(tmp_path)
    scene = _load(tmp_path)
    assert (scene.name, scene.frames, scene.height, scene.width) == ("Tiny", 3, 6, 8)
    assert scene.rgb.dtype == torch.float32 and scene.labels.dtype == torch.int64 and scene.motion.dtype == torch.bool
    expected = torch.tensor(np.stack([half_image(i) for i in range(T)]))
    torch.testing.assert_close(scene.rgb * 255, expected.float(), atol=1e-4, rtol=0)
    assert scene.disparity[2, 3].tolist() == [20 + x for x in range(8)]
    assert scene.motion[1].nonzero().tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]
    assert (scene.labels.numpy() == np.stack([label_ids(i)[1::2, 1::2] for i in range(T)])).all()
    assert scene.truth is None


def test_flow_belongs_to_its_frame_and_the_ends_are_empty(tmp_path):
    scene = write_scene(tmp_path)
    write_flow(scene / "flow/001_fwd.npz", vector=(9.0, 8.0))
    data = _load(tmp_path)
    assert data.flow_forward[:, 3, 3].tolist() == [list(FLOW), [9.0, 8.0], [0.0, 0.0]]
    assert data.flow_backward[:, 3, 3].tolist() == [[0.0, 0.0], [-FLOW[0], -FLOW[1]], [-FLOW[0], -FLOW[1]]]
    assert data.flow_forward_valid[:, 3, 3].tolist() == [True, True, False]
    assert data.flow_backward_valid[:, 3, 3].tolist() == [False, True, True]
    assert not data.flow_forward_valid[0, 0, 0]


def test_full_size_scales_the_maps(tmp_path):
    write_scene(tmp_path)
    scene = _load(tmp_path, factor=1)
    assert (scene.height, scene.width) == (H, W)
    assert scene.flow_forward[0, 5, 5].tolist() == [2 * FLOW[0], 2 * FLOW[1]]
    assert (scene.labels[1].numpy() == label_ids(1)).all()
    assert scene.motion[1].sum() == 16 and scene.disparity[0, 0, 5] == 2.25


@pytest.mark.parametrize("factor", [2, 4])
def test_missing_sizes_are_made_in_memory_and_nothing_is_written(tmp_path, factor):
    scene = write_scene(tmp_path, reduced=False)
    before = sorted((str(p), p.stat().st_mtime_ns) for p in tmp_path.rglob("*"))
    data = _load(tmp_path, factor=factor)
    full = frame_image(1).astype(np.float64) / 255
    means = full.reshape(H // factor, factor, W // factor, factor, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(data.rgb[1].numpy(), means, atol=1e-6)
    assert sorted((str(p), p.stat().st_mtime_ns) for p in tmp_path.rglob("*")) == before and scene.is_dir()


def test_factor_three_rounds_the_size(tmp_path):
    write_scene(tmp_path)
    scene = _load(tmp_path, factor=3)
    assert (scene.height, scene.width, scene.cameras.height, scene.cameras.width) == (4, 5, 4, 5)
    np.testing.assert_allclose(scene.flow_forward[0, 2, 2].numpy(), [FLOW[0] * 5 / 8, FLOW[1] * 4 / 6], rtol=1e-6)


def test_factor_beyond_the_image_is_refused(tmp_path):
    write_scene(tmp_path)
    with pytest.raises(ConfigError, match="factor = 20"):
        _load(tmp_path, factor=20)


def test_cameras_and_space(tmp_path):
    write_scene(tmp_path)
    scene = _load(tmp_path)
    scale = 1 / (0.9 * 2.0)
    assert scene.cameras.focal == pytest.approx(10.0) and len(scene.cameras) == T
    torch.testing.assert_close(scene.cameras.c2w[:, 0, 3], torch.tensor([-0.5, 0.0, 0.5]) * scale)
    torch.testing.assert_close(scene.cameras.far, torch.full((T,), 10.0 * scale))
    assert isinstance(scene.space, NdcSpace) and scene.space.aspect_x == pytest.approx(2 * 10 / 8)
    assert isinstance(_load(tmp_path, space="metric").space, MetricSpace)
    clipped = _load(tmp_path, clip_to_bounds=True).space
    assert clipped.u_far == pytest.approx(1 - 1 / (1.1 * 10 * scale), rel=1e-5)


def test_names_need_not_be_numbers_and_case_does_not_matter(tmp_path):
    scene = write_scene(tmp_path)
    expected = _load(tmp_path)
    names = {"000": "a frame", "001": "b.1", "002": "c"}
    for path in [p for p in scene.rglob("*") if p.is_file() and p.name[:3] in names]:
        path.rename(path.with_name(names[path.name[:3]] + path.name[3:].replace(".png", ".PNG")))
    assert _same(_load(tmp_path), expected)


def test_jpeg_frames(tmp_path):
    scene = write_scene(tmp_path, reduced=False)
    for path, suffix in zip(sorted((scene / "images").iterdir()), (".jpg", ".JPG", ".jpeg"), strict=True):
        iio.imwrite(path.with_suffix(suffix), iio.imread(path), extension=".jpg", quality=95)
        path.unlink()
    error = _load(tmp_path, factor=1).rgb * 255 - torch.tensor(np.stack([frame_image(i) for i in range(T)])).float()
    assert error.abs().mean() < 6


def test_files_of_unlabelled_frames_are_never_opened(tmp_path):
    scene = write_scene(tmp_path)
    expected = _load(tmp_path, labelled_frames="0,2")
    assert (expected.labels[1] == -1).all() and (expected.labels[0] >= 0).all()
    (scene / "SegmentationClass_train/001.png").write_bytes(b"destroyed")
    assert _same(_load(tmp_path, labelled_frames="0,2"), expected)
    (scene / "SegmentationClass_train/001.png").unlink()
    assert _same(_load(tmp_path, labelled_frames="0,2"), expected)
    shutil.rmtree(scene / "SegmentationClass_train")
    assert (_load(tmp_path, labelled_frames="none").labels == -1).all()


def test_all_takes_the_labels_there_are(tmp_path):
    scene = write_scene(tmp_path)
    (scene / "SegmentationClass_train/001.png").unlink()
    assert [(labels >= 0).all().item() for labels in _load(tmp_path).labels] == [True, False, True]


def test_a_scene_without_labels(tmp_path):
    write_scene(tmp_path, labels=False)
    scene = _load(tmp_path)
    assert (scene.labels == -1).all() and scene.label_map.names == ("background",) and scene.label_map.foreground == ()


def test_absent_foreground_and_empty_motion_masks_are_normal(tmp_path):
    scene = write_scene(tmp_path)
    for frame in range(T):
        write_image(scene / f"motion_masks/{frame:03d}.png", np.zeros((6, 8), dtype=np.uint8))
    write_image(scene / "SegmentationClass_train/000.png", COLORS[np.ones((H, W), dtype=int)])
    data = _load(tmp_path)
    assert not data.motion.any() and (data.labels[0] == 1).all()


def test_motion_does_not_depend_on_labels(tmp_path):
    write_scene(tmp_path / "with")
    write_scene(tmp_path / "without", labels=False)
    assert torch.equal(_load(tmp_path / "with").motion, _load(tmp_path / "without").motion)


def test_two_roots(tmp_path):
    frames, labels = tmp_path / "data", tmp_path / "data_semantic"
    write_scene(frames, labels=False)
    write_labels(labels / "Tiny/SegmentationClass_train")
    write_classes(labels)
    write_truth(frames, labels)
    write_scene(tmp_path / "one")
    scene = _load(frames, labels_dir=str(labels))
    assert _same(scene, _load(tmp_path / "one"))
    assert scene.label_map.names[2] == "ball" and scene.truth.read_labels(1, 1).unique().tolist() == [2]
    assert problems_of(DataConfig(dir=str(frames), labels_dir=str(labels)), ["Tiny"]) == []
    with pytest.raises(DataError, match="nowhere.*labels_dir"):
        _load(frames, labels_dir=str(tmp_path / "nowhere"))


@pytest.mark.parametrize("labels_apart", [False, True])
def test_truth_is_zero_based_and_at_frame_size(tmp_path, labels_apart):
    write_scene(tmp_path)
    apart = tmp_path / "apart"
    write_truth(tmp_path, apart if labels_apart else tmp_path)
    truth = _load(tmp_path, labels_dir=str(apart) if labels_apart else "").truth
    assert (truth.cameras, truth.times) == (3, 3)
    for time, camera in ((0, 0), (0, 2), (2, 0), (1, 2)):
        rgb, ids = truth.read_rgb(time, camera), truth.read_labels(time, camera)
        assert rgb.shape == (6, 8, 3) and rgb.dtype == torch.float32
        np.testing.assert_allclose(rgb[3, 3].numpy() * 255, truth_color(time, camera), atol=1e-3)
        assert ids.shape == (6, 8) and ids.dtype == torch.int64 and ids.unique().tolist() == [(time + camera) % 3]


def test_truth_is_read_when_asked_for(tmp_path):
    scene = write_scene(tmp_path)
    write_truth(tmp_path)
    (scene / "multiview_GT/00000002/cam03.png").write_bytes(b"broken")
    truth = _load(tmp_path).truth
    assert truth.read_labels is None and truth.read_rgb(1, 1).shape == (6, 8, 3)
    with pytest.raises(DataError, match="00000002/cam03.png"):
        truth.read_rgb(1, 2)


def test_scene_moves_to_the_device(tmp_path):
    write_scene(tmp_path)
    scene = load_scene(DataConfig(dir=str(tmp_path)), "Tiny", device="meta")
    assert {scene.rgb.device.type, scene.labels.device.type, scene.cameras.c2w.device.type} == {"meta"}


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _repaint(path: Path) -> None:
    image = iio.imread(path)
    image[3, 5] = (1, 2, 3)
    iio.imwrite(path, image)


def _save(array):
    return lambda path: np.save(path, array)


def _pickle(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def _image(height, width):
    return lambda path: iio.imwrite(path, np.zeros((height, width, 3), dtype=np.uint8))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


_WITH_NAN = np.where(np.arange(48).reshape(6, 8) == 10, np.nan, 1.0)
BROKEN = {  # kind: (file of the scene, how it breaks, words of the message beside the file's name)
    "no images": ("images", shutil.rmtree, "no such folder; put the frames", {"factor": 1}),
    "no frame of images_2": (
        "images_2/001.png",
        Path.unlink,
        "no such file; add the missing frame, or remove images_2",
    ),
    "empty frame": ("images_2/001.png", _empty, "is empty (0 bytes)"),
    "truncated frame": ("images_2/001.png", _cut, "not a readable image, or is cut short"),
    "text as frame": ("images_2/001.png", lambda p: p.write_text("hello"), "not a readable image"),
    "frames differ in size": (
        "images_2/001.png",
        _image(6, 9),
        "is 9x6, other frames are 8x6; give all frames one size",
    ),
    "a tiff among the frames": ("images/003.tif", lambda p: p.write_bytes(b"II"), "convert it to png or jpg"),
    "two files of one frame": ("images/001.jpg", _image(12, 16), "same name as"),
    "no poses": ("poses_bounds.npy", Path.unlink, "no such file"),
    "pickled poses": ("poses_bounds.npy", _pickle, "pickled data are never loaded"),
    "poses of two frames": (
        "poses_bounds.npy",
        _save(poses_bounds()[:2]),
        "2 rows for 3 frames; give one row per frame",
    ),
    "no disparities": ("disp", shutil.rmtree, "no such folder; compute inverse depth with any monocular depth network"),
    "fewer disparities": ("disp/002.npy", Path.unlink, "no such file; compute inverse depth"),
    "disparity with NaN": ("disp/002.npy", _save(_WITH_NAN), "NaN or infinity in 1 place(s), first at [1, 2]"),
    "disparity of colours": (
        "disp/002.npy",
        _save(np.ones((6, 8, 3))),
        "shape (6, 8, 3); save an array of shape (h, w)",
    ),
    "disparity as text": ("disp/002.npy", _save(np.full((6, 8), "near")), "dtype <U4"),
    "disparity of another aspect": (
        "disp/002.npy",
        _save(np.ones((12, 8))),
        "8x12, another aspect ratio than the frames (8x6)",
    ),
    "pickled disparity": ("disp/002.npy", _pickle, "pickled"),
    "empty disparity": ("disp/002.npy", _empty, "0 bytes"),
    "truncated disparity": ("disp/002.npy", _cut, "cut short"),
    "no motion masks": ("motion_masks", shutil.rmtree, "no such folder; save a mask for each frame"),
    "fewer motion masks": ("motion_masks/000.png", Path.unlink, "no such file; save a mask"),
    "truncated motion mask": ("motion_masks/000.png", _cut, "cut short"),
    "motion mask of another aspect": ("motion_masks/000.png", _image(16, 8), "another aspect ratio"),
    "no flow": ("flow", shutil.rmtree, "no such folder; compute optical flow between neighbouring frames"),
    "no backward flow": ("flow/002_bwd.npz", Path.unlink, "no such file; compute optical flow"),
    "truncated flow": ("flow/000_fwd.npz", _cut, "cut short"),
    "flow with NaN": ("flow/000_fwd.npz", lambda p: write_flow(p, vector=(np.nan, 0)), "flow holds NaN"),
    "flow of another aspect": ("flow/000_fwd.npz", lambda p: write_flow(p, shape=(8, 6)), "another aspect ratio"),
    "unknown colour": (
        "SegmentationClass_train/001.png",
        _repaint,
        "colour (1, 2, 3) at pixel x 5, y 3 is not in labelmap.txt",
    ),
    "truncated labels": ("SegmentationClass_train/001.png", _cut, "cut short"),
    "labels of another aspect": ("SegmentationClass_train/001.png", _image(16, 12), "another aspect ratio"),
    "a listed label missing": (
        "SegmentationClass_train/001.png",
        Path.unlink,
        "labelled_frames",
        {"labelled_frames": "0-2"},
    ),
    "labels listed, none there": (
        "SegmentationClass_train",
        shutil.rmtree,
        "labelled_frames",
        {"labelled_frames": "0-2"},
    ),
    "misnamed label": (
        "SegmentationClass_train/one.png",
        lambda p: (p.parent / "001.png").rename(p),
        "name of no frame",
    ),
    "no label map": ("../labelmap.txt", Path.unlink, "no such file; write one header line"),
    "no foreground list": ("../foreground_object.txt", Path.unlink, "no such file; write the names"),
    "empty foreground list": ("../foreground_object.txt", _empty, "0 bytes"),
    "truth of too few times": ("multiview_GT/00000003", shutil.rmtree, "no such folder; add it (names are 1-based"),
    "truth of too few cameras": ("multiview_GT_semantic/00000003/cam02.png", Path.unlink, "no such file; add it"),
    "label truth alone": ("multiview_GT", shutil.rmtree, "although there is multiview_GT_semantic"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_file_is_one_clear_line_in_loading_and_checking(tmp_path, kind):
    file, damage, words, *settings = BROKEN[kind]
    scene = write_scene(tmp_path)
    write_truth(tmp_path, tmp_path)
    damage(scene / file)
    config = DataConfig(dir=str(tmp_path), **(settings[0] if settings else {}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError) as caught:
            load_scene(config, "Tiny")
        problems = problems_of(config, ["Tiny"])
    message = str(caught.value)
    assert words in message and Path(file).name in message and "\n" not in message
    assert message in [str(problem) for problem in problems]
    assert all(problem.remedy for problem in problems)


def test_one_frame_is_no_scene(tmp_path):
    scene = write_scene(tmp_path, reduced=False)
    for name in ("001.png", "002.png"):
        (scene / "images" / name).unlink()
    with pytest.raises(DataError, match=r"holds 1 frame.*at least 2"):
        _load(tmp_path)


def test_missing_root_and_scene(tmp_path):
    write_scene(tmp_path)
    with pytest.raises(DataError, match=r"nowhere: no such folder; set data.dir .*--data_dir"):
        _load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="Other: no such scene folder; name one of: Tiny; or set data.dir .*--data_dir"):
        load_scene(DataConfig(dir=str(tmp_path)), "Other")


@needs_shared
def test_real_scene():
    root = SHARED / "real"
    config = DataConfig(dir=str(root), labelled_frames="0-8", static_classes=("Balloon1:person",))
    scene = load_scene(config, "Balloon1")
    assert scene.rgb.shape == (12, 270, 480, 3) and scene.truth is None
    assert scene.label_map.names == ("background", "balloon", "board", "brick_wall", "floor", "person")
    assert scene.label_map.foreground == (1,) and scene.label_map.listed_foreground == (1, 5)
    assert scene.cameras.focal == pytest.approx(460.342, abs=1e-3)
    stored = iio.imread(root / "Balloon1/SegmentationClass_train/004.png")
    assert ((scene.labels[4] == 1).numpy() == (stored == (61, 245, 61)).all(-1)).all()
    assert (scene.labels[:9] >= 0).all() and (scene.labels[9:] == -1).all()
    np.testing.assert_array_equal(scene.disparity[0].numpy(), np.load(root / "Balloon1/disp/000.npy"))
    np.testing.assert_array_equal(scene.flow_backward[1].numpy(), np.load(root / "Balloon1/flow/001_bwd.npz")["flow"])
    assert (scene.rgb[3] * 255).round().byte().numpy().tolist() == iio.imread(
        root / "Balloon1/images_2/003.png"
    ).tolist()


@needs_shared
@pytest.mark.parametrize("name", ["Parade", "Banner"])
def test_foreign_scenes(name):
    config = DataConfig(dir=str(SHARED / "foreign"))
    scene = load_scene(config, name)
    assert scene.rgb.shape == (12, 135, 240, 3) and len(scene.label_map) == 11
    assert scene.label_map.foreground == (6, 7, 8, 9, 10)
    assert (scene.truth.cameras, scene.truth.times) == (12, 12)
    for frame in (0, 7):  # the truth of camera i at time i is frame i; a wrong order would differ by 0.03 and more
        assert (scene.truth.read_rgb(frame, frame) - scene.rgb[frame]).abs().mean() < 0.01
        assert (scene.truth.read_rgb(frame, 11 - frame) - scene.rgb[frame]).abs().mean() > 0.02
        assert (scene.truth.read_labels(frame, frame) == scene.labels[frame]).float().mean() > 0.97
    stored = np.load(SHARED / "foreign" / name / "flow/003_fwd.npz")
    np.testing.assert_array_equal(scene.flow_forward[3].numpy(), stored["flow"])
    np.testing.assert_array_equal(scene.flow_forward_valid[3].numpy(), stored["mask"])
    full = load_scene(DataConfig(dir=str(SHARED / "foreign"), factor=1), name)
    assert full.rgb.shape == (12, 270, 480, 3)
    np.testing.assert_allclose(full.flow_forward[3].mean((0, 1)), 2 * stored["flow"].mean((0, 1)), rtol=1e-3)
