"""Broken input ends in one line that names file or key and remedy, status 2, no traceback; nothing is overwritten."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))

from layout_fixture import write_scene  # noqa: E402

from semflow.cli.main import main  # noqa: E402

CONFIG = """
data.dir = {root}/scenes
data.scenes = [A]
out = {root}/run
device = cpu
encoder.kind = pixels
encoder.static_kind = none
model.code_width = 0
static_stage.steps = 1
dynamic_stage.steps = 1
"""


@pytest.fixture
def root(tmp_path) -> Path:
    write_scene(tmp_path / "scenes", "A")
    (tmp_path / "config.txt").write_text(CONFIG.format(root=tmp_path))
    return tmp_path



def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def with_nan(path: Path) -> None:
    values = np.load(path)
    values[0, 0] = np.nan
    np.save(path, values)


def paint(path: Path) -> None:
    import imageio.v3 as iio

    image = iio.imread(path)
    image[0, 0] = (1, 2, 3)
    iio.imwrite(path, image)


def shrink(path: Path) -> None:
    import imageio.v3 as iio

    iio.imwrite(path, iio.imread(path)[:-4])


BROKEN_FILES = {
    "missing scene": ("A", shutil.rmtree, "A"),
    "missing poses": ("A/poses_bounds.npy", Path.unlink, "poses_bounds.npy"),
    "missing folder": ("A/disp", shutil.rmtree, "disp"),
    "missing map": ("A/motion_masks/001.png", Path.unlink, "motion_masks"),
    "empty image": ("A/images_2/001.png", lambda p: p.write_bytes(b""), "001.png"),
    "truncated image": ("A/images_2/001.png", truncate, "001.png"),
    "truncated array": ("A/disp/001.npy", truncate, "001.npy"),
    "truncated archive": ("A/flow/000_fwd.npz", truncate, "000_fwd.npz"),
    "nan in disparity": ("A/disp/002.npy", with_nan, "002.npy"),
    "nan in poses": ("A/poses_bounds.npy", with_nan, "poses_bounds.npy"),
    "text instead of image": ("A/motion_masks/000.png", lambda p: p.write_text("not a mask"), "000.png"),
    "pickled array": ("A/disp/000.npy", lambda p: np.save(p, np.array([{}]), allow_pickle=True), "000.npy"),
    "wrong dtype": ("A/disp/000.npy", lambda p: np.save(p, np.array([["a"]])), "000.npy"),
    "wrong shape of poses": ("A/poses_bounds.npy", lambda p: np.save(p, np.zeros((3, 16))), "poses_bounds.npy"),
    "too few poses": ("A/poses_bounds.npy", lambda p: np.save(p, np.load(p)[:2]), "poses_bounds.npy"),
    "unknown colour": ("A/SegmentationClass_train/001.png", paint, "001.png"),
    "other aspect": ("A/motion_masks/001.png", shrink, "001.png"),
    "frames differ in size": ("A/images_2/001.png", shrink, "001.png"),
    "malformed label map": ("labelmap.txt", lambda p: p.write_text("# head\nbackground;0,0,0\n"), "labelmap.txt"),
    "unknown foreground class": ("foreground_object.txt", lambda p: p.write_text("unicorn\n"), "foreground_object.txt"),
}

BROKEN_CONFIGS = {
    "unknown key": ("model.static_widht = 8\n", "static_widht"),
    "misspelt boolean": ("data.clip_to_bounds = Ture\n", "clip_to_bounds"),
    "not a number": ("train.seed = many\n", "train.seed"),
    "out of range": ("dynamic_stage.samples = 1\n", "dynamic_stage.samples"),
    "unknown choice": ("model.encoding = hash\n", "model.encoding"),
    "key twice": ("data.scenes = [B]\n", "data.scenes"),
    "missing base": ("base = nowhere.txt\n", "nowhere.txt"),
    "frame out of range": ("data.labelled_frames = 0-9\n", "labelled_frames"),
    "unknown static class": ("data.static_classes = [\"A:unicorn\"]\n", "unicorn"),
    "missing weights": ("encoder.video_weights = nowhere.pth\n", "nowhere.pth"),
    "missing start": ("init = nowhere.safetensors\n", "nowhere.safetensors"),
}


def digest(folder: Path) -> dict[str, str]:
    """Path -> hash of every file."""
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def assert_refused(arguments: list[str], names: str, root: Path, capsys) -> None:
    before = digest(root)
    capsys.readouterr()
    assert main(arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("semflow: error: "), lines
    assert names in lines[0] and "Traceback" not in lines[0]
    assert len(lines[0]) > len("semflow: error: ") + len(names) + 10  # it says more than the name
    assert digest(root) == before


@pytest.mark.parametrize("kind", BROKEN_FILES)
def test_broken_file(root, capsys, kind):
    relative, damage, names = BROKEN_FILES[kind]
    damage(root / "scenes" / relative)
    assert_refused(["train", "--config", str(root / "config.txt")], names, root, capsys)


@pytest.mark.parametrize("kind", BROKEN_CONFIGS)
def test_broken_configuration(root, capsys, kind):
    line, names = BROKEN_CONFIGS[kind]
    file = root / "config.txt"
    text = file.read_text()
    if "video_weights" in line:
        text = text.replace("encoder.kind = pixels", "encoder.kind = slowonly")
    file.write_text(text + line)
    assert_refused(["train", "--config", str(file)], names, root, capsys)


def test_missing_configuration(root, capsys):
    assert_refused(["train", "--config", str(root / "none.txt")], "none.txt", root, capsys)


def test_unknown_device(root, capsys):
    assert_refused(["train", "--config", str(root / "config.txt"), "--device", "tpu"], "tpu", root, capsys)


def test_unknown_command(root, capsys):
    assert_refused(["trian"], "trian", root, capsys)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_wrong_checkpoint(root, capsys, content):
    path = root / "wrong.safetensors"
    if content is None:
        torch.save({"model": {}}, path)
    else:
        path.write_bytes(content)
    arguments = ["render", "--run", str(root), "--checkpoint", str(path), "--device", "cpu"]
    assert_refused(arguments, "wrong.safetensors", root, capsys)


def test_run_without_checkpoint(root, capsys):
    (root / "empty").mkdir()
    assert_refused(["evaluate", "--run", str(root / "empty"), "--device", "cpu"], "empty", root, capsys)


def test_output_folder_of_something_else(root, capsys):
    (root / "run").mkdir()
    (root / "run" / "precious.txt").write_text("mine")
    assert_refused(["train", "--config", str(root / "config.txt")], "run", root, capsys)


def test_making_a_scene_over_another(root, capsys):
    assert_refused(["make-scene", "--root", str(root / "scenes"), "--name", "A"], "scenes", root, capsys)


def test_wrong_quantity_to_render(root, capsys):
    assert_refused(["render", "--run", str(root), "--what", "rbg"], "rbg", root, capsys)
