"""`semflow track` with a closed-form model: which points are tracked, what is written, and what is refused."""

import argparse
import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toys import StandInModel, context_of, make_scene, sliding_cameras

from semflow.cli import edit, evaluate, render, track
from semflow.cli.main import main
from semflow.config.schema import Config, DataConfig, RenderConfig
from semflow.engine.scenes import KeptScene
from semflow.rendering.model_renderer import ModelRenderer

CAMERAS = sliding_cameras(3, height=18, width=24, focal=30.0)
SCENE = make_scene(CAMERAS)


@pytest.fixture
def arguments(monkeypatch, tmp_path):
    """The command on a run of the stand-in."""
    renderer = ModelRenderer(StandInModel(), {"toy": context_of(CAMERAS)}, RenderConfig(samples=48, occupancy=0))
    loaded = SimpleNamespace(config=replace(Config(), data=DataConfig(dir=str(tmp_path), scenes=("toy",))),
                             scenes={"toy": KeptScene("toy", SCENE.rgb, CAMERAS, None, SCENE.label_map, None)},
                             renderer=renderer, scene_names=("toy",), label_map=lambda scene: SCENE.label_map)
    monkeypatch.setitem(sys.modules, "semflow.engine.loading", SimpleNamespace(load_run=lambda *args: loaded))
    return ["track", "--run", str(tmp_path), "--device", "cpu"]


def written(tmp_path):
    with np.load(tmp_path / "tracks" / "toy" / "tracks.npz") as held:
        return dict(held)


def test_without_points_what_moves_at_the_start_is_tracked(arguments, tmp_path):
    assert main(arguments) == 0
    held = written(tmp_path)
    assert len(held["uv"]) == 3 and held["moving"].all() and not held["start"].any()
    names = {path.name for path in (tmp_path / "tracks" / "toy").iterdir()}
    assert names == {"tracks.npz", "points", "points.mp4", "sheet.png", "trails.png"}


def test_earlier_tracks_are_replaced_with_a_note(arguments, tmp_path, capsys):
    for noted in (False, True):
        assert main([*arguments, "--pixel", "3,14@1"]) == 0
        assert ("replacing the earlier tracks in" in capsys.readouterr().out) is noted


def test_pixels_and_masks_are_tracked_together(arguments, tmp_path):
    chosen = ["--pixel", "3,14@1", "--pixel", "11,7@2", "--class", "ball@1", "--grid", "2", "--camera", "1"]
    assert main([*arguments, *chosen]) == 0
    held = written(tmp_path)
    assert held["start"][:3].tolist() == [1, 2, 1] and held["moving"][:3].tolist() == [False, True, True]
    np.testing.assert_allclose(held["uv"][0, 1], [3.5, 14.5], atol=1e-3)
    assert held["cameras"].tolist() == [1, 1, 1] and held["moving"][1:].all()


def test_scores_of_a_scene_without_true_tracks_are_those_of_its_masks(arguments, tmp_path, monkeypatch, capsys):
    labels = torch.zeros(3, 18, 24, dtype=torch.int64)
    labels[:, 5:12, 8:15] = 1
    monkeypatch.setattr(evaluate, "load_scenes", lambda data, device: (
        [replace(SCENE, labels=labels)], {"toy": labels}))
    assert main([*arguments, "--score", "--pixel", "11,7@0"]) == 0
    scores = json.loads((tmp_path / "tracks" / "toy" / "scores.json").read_text())
    assert scores["start"] == 0 and set(scores["scores"]) == {"ours", "flow", "unmoved"}
    assert scores["scores"]["unmoved"]["masks"]["ball"]["j"] == 1.0 and scores["scores"]["ours"]["points"] == {}
    assert scores["scores"]["ours"]["masks"]["ball"]["j"] < 1 and "J&F" in capsys.readouterr().out


def test_a_scene_of_another_size_cannot_be_scored(arguments, monkeypatch, capsys):
    larger = replace(SCENE, cameras=CAMERAS.resized(36, 48))
    monkeypatch.setattr(evaluate, "load_scenes", lambda data, device: ([larger], {"toy": larger.labels}))
    assert main([*arguments, "--score", "--pixel", "11,7@0"]) == 2
    assert "its frames are 48x36, the checkpoint was trained on 24x18" in capsys.readouterr().err


@pytest.mark.parametrize("spelling", ["--labels_dir", "--labels-dir"])
def test_the_root_of_the_labels_has_two_spellings(spelling):
    parser = argparse.ArgumentParser()
    track.add_arguments(parser)
    assert parser.parse_args(["--run", "r", spelling, "elsewhere"]).labels_dir == "elsewhere"


@pytest.mark.parametrize("command", [track, evaluate, render, edit])
def test_settings_are_several_or_repeated(command):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    given = parser.parse_args(["--run", "r", "--set", "render.samples=9", "render.chunk=5", "--set", "render.occupancy=0"])
    assert given.set == ["render.samples=9", "render.chunk=5", "render.occupancy=0"]
    assert parser.parse_args(["--run", "r"]).set == []


@pytest.mark.parametrize(("wrong", "said"), [
    (["--pixel", "3@1"], "X,Y@T"), (["--pixel", "24,1@0"], "24x18"), (["--pixel", "1,1@3"], "0 to 2"),
    (["--class", "dog@0"], "wall, ball, floor"), (["--class", "ball"], "NAME@T"), (["--grid", "0"], "at least 1"),
    (["--grid", "99"], "nothing to track"), (["--camera", "3"], "0 to 2"), (["--camera", "1", "--score"], "leave out"),
    (["--camera", "1", "--over", "frames"], "leave out"),
])
def test_bad_options_are_one_line_and_status_2(arguments, wrong, said, capsys):
    assert main([*arguments, *wrong]) == 2
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1
