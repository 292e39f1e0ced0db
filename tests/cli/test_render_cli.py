"""`semflow render` with a run whose views are known in closed form."""

import argparse
import sys
from dataclasses import dataclass, field
from types import ModuleType

import imageio.v2 as imageio
import numpy as np
import pytest
import torch

from semflow.cli import render
from semflow.geometry.cameras import Cameras
from semflow.records import LabelMap, View
from semflow.utils.errors import CheckpointError, ConfigError
from semflow.viz.panels import GAP, caption_height
from semflow.viz.pictures import PICTURES

T, H, W = 5, 18, 32
LABELS = LabelMap(("a", "b"), torch.tensor([[0, 0, 0], [250, 100, 0]], dtype=torch.uint8), (1,))


@dataclass
class FakeRenderer:
    """Grey that brightens with the time; class b in the left half; records what it was asked."""

    calls: list = field(default_factory=list)

    def render(self, scene, cameras, camera, time, what) -> View:
        self.calls.append((scene, cameras.height, cameras.width, camera, time, what))
        assert not torch.is_grad_enabled()
        x = cameras.pixels()[..., 0]
        grey = torch.full((cameras.height, cameras.width, 3), 0.1 + 0.2 * time)
        held = {
            "rgb": {"rgb": grey},
            "depth": {"depth": torch.full_like(x, 2.0)},
            "entropy": {"entropy": torch.zeros_like(x)},
            "semantic": {"logits": torch.stack([torch.zeros_like(x), cameras.width / 2 - x], dim=-1)},
            "flow": {"flow": torch.stack([torch.full_like(x, cameras.width / 16), torch.zeros_like(x)], dim=-1)},
            "static": {"static_rgb": 0.5 * grey}, "dynamic": {"dynamic_rgb": 1.5 * grey, "dynamic_opacity": x},
        }
        return View(**{key: value for name in what for key, value in held[name].items()})


class FakeRun:
    scene_names = ("Ball", "Flag")
    config = None

    def __init__(self):
        self.renderer = FakeRenderer()

    def cameras(self, scene: str) -> Cameras:
        c2w = torch.eye(4)[:3].repeat(T, 1, 1)
        c2w[:, 0, 3] = 0.1 * torch.arange(T)
        return Cameras(c2w, 40.0, H, W, torch.full((T,), 1.2), torch.full((T,), 4.0))

    def label_map(self, scene: str) -> LabelMap:
        return LABELS


@pytest.fixture
def loaded(monkeypatch) -> FakeRun:
    run = FakeRun()
    run.requests = []

    def load_run(folder, device, checkpoint=None, settings=()):
        run.requests.append((folder, device, checkpoint))
        return run

    module = ModuleType("semflow.engine.loading")
    module.load_run = load_run
    monkeypatch.setitem(sys.modules, "semflow.engine.loading", module)
    return run


def call(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    render.add_arguments(parser)
    return render.run(parser.parse_args([str(a) for a in arguments]))


def read_video(path) -> list[np.ndarray]:
    with imageio.get_reader(path) as reader:
        return [np.asarray(image) for image in reader]  # len(reader) is infinite: list() fails


def test_everything_is_written_where_promised(loaded, tmp_path, capsys):
    what = ",".join(PICTURES)
    options = ("--side-by-side", "--frames", 4, "--path", "spiral", "--device", "cpu")
    assert call("--run", tmp_path, "--what", what, *options) == 0
    printed = capsys.readouterr().out.splitlines()
    out = tmp_path / "renders" / "Ball_spiral"
    names = [*PICTURES, "side_by_side"]
    assert {p.name for p in out.iterdir()} == {*names, *(f"{n}.mp4" for n in names)}
    for name in names:
        assert sorted(p.name for p in (out / name).iterdir()) == ["0000.png", "0001.png", "0002.png", "0003.png"]
        assert len(read_video(out / f"{name}.mp4")) == 4
    assert printed == [str(out / f"{name}.mp4") for name in names]
    assert loaded.requests == [(tmp_path, "cpu", None)]
    wide = imageio.imread(out / "side_by_side" / "0000.png")
    assert wide.shape == (2 * (H + caption_height(H)) + GAP, 4 * W + 3 * GAP, 3)


def test_pictures_show_the_views_and_time_runs_fractionally(loaded, tmp_path):
    call("--run", tmp_path, "--what", "rgb,semantic,flow", "--frames", 9, "--path", "fixed-view", "--camera", 2)
    out = tmp_path / "renders" / "Ball_fixed-view"
    for i in range(9):
        expected = round(255 * min(1.0, 0.1 + 0.2 * 0.5 * i))
        assert np.abs(imageio.imread(out / "rgb" / f"{i:04d}.png").astype(int) - expected).max() <= 1
    labels = imageio.imread(out / "semantic" / "0003.png")
    assert (labels[:, : W // 2] == [250, 100, 0]).all() and (labels[:, W // 2 :] == 0).all()
    assert np.abs(imageio.imread(out / "flow" / "0000.png").astype(int) - [255, 0, 0]).max() <= 2  # all at full scale
    full = [c for c in loaded.renderer.calls if c[5] == {"rgb", "semantic", "flow"}]
    assert [c[3] for c in full] == list(range(9)) and [c[4] for c in full] == [0.5 * i for i in range(9)]


def test_the_renderer_is_asked_for_what_is_needed_only(loaded, tmp_path):
    call("--run", tmp_path, "--what", "overlay", "--frames", 2)
    assert [c[5] for c in loaded.renderer.calls] == [{"rgb", "semantic"}] * 2


def test_any_size_scene_checkpoint_and_folder(loaded, tmp_path):
    out, checkpoint = tmp_path / "out", tmp_path / "last.ckpt"
    call("--run", tmp_path, "--checkpoint", checkpoint, "--scene", "Flag", "--what", "rgb", "--size", "45x27",
         "--frames", 3, "--fps", 6, "--out", out)
    assert imageio.imread(out / "rgb" / "0002.png").shape == (27, 45, 3)
    frames = read_video(out / "rgb.mp4")
    assert len(frames) == 3 and frames[0].shape == (28, 46, 3)
    assert loaded.requests[0][2] == checkpoint
    assert {c[:3] for c in loaded.renderer.calls} == {("Flag", 27, 45)}
    assert not (tmp_path / "renders").exists()


def test_time_is_held_at_a_fraction(loaded, tmp_path):
    call("--run", tmp_path, "--what", "rgb", "--path", "fixed-time", "--time", 1.25, "--frames", 3)
    assert [c[4] for c in loaded.renderer.calls] == [1.25] * 3
    image = imageio.imread(tmp_path / "renders" / "Ball_fixed-time" / "rgb" / "0000.png")
    assert np.abs(image.astype(int) - 89).max() <= 1  # 255 * (0.1 + 0.2 * 1.25)


def test_rendering_again_replaces_its_own_files_only(loaded, tmp_path, capsys):
    out = tmp_path / "out"
    call("--run", tmp_path, "--what", "rgb", "--frames", 4, "--out", out)
    (out / "notes.txt").write_text("mine")
    assert "replacing" not in capsys.readouterr().out
    call("--run", tmp_path, "--what", "rgb,depth", "--frames", 3, "--out", out)
    assert len(read_video(out / "rgb.mp4")) == 3
    assert (out / "notes.txt").read_text() == "mine" and (out / "rgb" / "0003.png").exists()
    said = capsys.readouterr().out
    assert "1 older" in said and f"replacing the earlier rgb in {out}\n" in said


@pytest.mark.parametrize(("arguments", "message"), [
    (("--what", "rgb,semantics"), "'semantics' is not a picture; choose from rgb, semantic"),
    (("--path", "orbit"), "choose one of novel, fixed-view"),
    (("--size", "480"), "WIDTHxHEIGHT"),
    (("--size", "0x20"), "WIDTHxHEIGHT"),
    (("--fps", "0"), "fps = 0: must be positive"),
    (("--fps", "inf"), "fps = inf: must be positive, and 1000 at most"),
    (("--scene", "Skating"), "the run holds Ball, Flag"),
    (("--time", "4.5"), "time = 4.5: must lie between 0 and 4"),
    (("--path", "dolly", "--camera", "5"), "camera = 5"),
    (("--frames", "0"), "frames = 0"),
])
def test_bad_options_are_one_line_and_write_nothing(loaded, tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message) as caught:
        call("--run", tmp_path, *arguments)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [] and loaded.renderer.calls == []


def test_a_mistyped_run_is_not_made_beside_a_checkpoint(loaded, tmp_path):
    with pytest.raises(CheckpointError, match="runn: no such run folder; check --run, or say where to write by --out"):
        call("--run", tmp_path / "runn", "--checkpoint", tmp_path / "step.safetensors")
    assert list(tmp_path.iterdir()) == [] and not loaded.requests
    assert call("--run", tmp_path / "runn", "--what", "rgb", "--frames", 2, "--out", tmp_path / "out") == 0


def test_the_flow_scale_follows_the_size(loaded):
    trajectory = render.make_trajectory("novel", loaded.cameras("Ball").resized(180, 320), 5)
    palette = render.make_palette(loaded, "Ball", trajectory, with_flow=True)
    assert palette.flow_scale == pytest.approx(320 / 16)
    assert {c[2] for c in loaded.renderer.calls} == {render.PROBE_WIDTH}
    assert (palette.near, palette.far) == (pytest.approx(1.2), pytest.approx(4.0))


def test_module_docstring_is_the_description():
    assert render.__doc__.startswith("Render") and len(render.__doc__.splitlines()) == 1
