"""`semflow evaluate`: the labels that training did not see become truth, and only truth."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from semflow.cli import evaluate as command
from semflow.cli.main import main
from semflow.config.parser import config_to_text
from semflow.config.schema import Config, DataConfig
from semflow.data import loader
from semflow.engine.baselines import BASELINES, build_baseline
from semflow.engine.copying import CopyingRenderer
from semflow.engine.protocols import PROTOCOLS
from semflow.engine.scenes import KeptScene
from semflow.geometry.cameras import Cameras
from semflow.records import LabelMap, SceneData


def fake_scene(name: str) -> SceneData:
    """Three frames of 12 x 12, all labelled."""
    maps, flow = torch.zeros(3, 12, 12), torch.zeros(3, 12, 12, 2)
    cameras = Cameras(torch.eye(4)[:3].expand(3, 3, 4), 10.0, 12, 12, torch.ones(3), torch.ones(3))
    labels = torch.stack([torch.full((12, 12), frame) for frame in range(3)])
    colors = torch.zeros(3, 3, dtype=torch.uint8)
    return SceneData(name, torch.rand(3, 12, 12, 3), cameras, None, maps, maps.bool(), flow, maps.bool(), flow,
                     maps.bool(), labels, LabelMap(("a", "b", "c"), colors, (1, 2)))


@pytest.fixture
def read(monkeypatch):
    """Configurations with which scenes were read."""
    configs = []

    def load_scene(config, name, device):
        configs.append(config)
        return fake_scene(name)

    monkeypatch.setattr(loader, "load_scene", load_scene)
    return configs


@pytest.fixture
def asked(monkeypatch):
    """Arguments with which the run was loaded; the run's labels are those of the frames 0 and 1."""
    calls = []

    def load_run(run, device, checkpoint=None, settings=()):
        calls.append((run, device, checkpoint))
        config = replace(Config(), data=DataConfig(scenes=("toy",), labelled_frames="0-1"))
        scene = fake_scene("toy")
        kept = KeptScene("toy", scene.rgb, scene.cameras, None, scene.label_map, None)
        return SimpleNamespace(config=config, renderer=CopyingRenderer({"toy": scene}), scenes={"toy": kept},
                               identity={"checkpoint": "step-7.safetensors", "step": 7, "steps": 9, "settings": []})

    monkeypatch.setitem(sys.modules, "semflow.engine.loading", SimpleNamespace(load_run=load_run))
    return calls


def test_training_sees_its_frames_and_the_truth_all(read):
    (scene,), truth = command.load_scenes(DataConfig(scenes=("toy",), labelled_frames="0,2"), "cpu")
    assert [int(labels.max()) for labels in scene.labels] == [0, -1, 2]
    assert [int(labels.max()) for labels in truth["toy"]] == [0, 1, 2]
    assert read[0].labelled_frames == "all"


def test_the_command_writes_the_evaluation_and_prints_the_table(read, asked, tmp_path, capsys):
    arguments = ["evaluate", "--run", str(tmp_path), "--save", "--device", "cpu", "--data_dir", "elsewhere"]
    assert main(arguments) == 0
    assert asked == [(tmp_path, "cpu", None)] and read[0].dir == "elsewhere"
    assert (tmp_path / "eval" / "corrected" / "toy" / "t002_c001_labels.png").is_file()
    printed = capsys.readouterr().out
    assert "step-7.safetensors: step 7 of 9, the run is unfinished" in printed
    assert json.loads((tmp_path / "eval" / "corrected" / "metrics.json").read_text())["evaluated"]["step"] == 7
    assert "corrected-1" in printed and "held-out" in printed and "replacing" not in printed
    assert main(arguments + ["--protocol", "paper", "--checkpoint", "step.safetensors"]) == 0
    assert asked[-1][2] == Path("step.safetensors") and (tmp_path / "eval" / "paper" / "metrics.json").is_file()
    assert main(arguments) == 0
    assert "replacing the earlier evaluation" in capsys.readouterr().out


@pytest.fixture
def two_scenes(monkeypatch):
    """A run of the scenes `toy` and `other`."""
    scenes = {name: fake_scene(name) for name in ("toy", "other")}
    kept = {name: KeptScene(name, scene.rgb, scene.cameras, None, scene.label_map, None) for name, scene in scenes.items()}
    monkeypatch.setattr(loader, "load_scene", lambda config, name, device: scenes[name])
    config = replace(Config(), data=DataConfig(scenes=("toy", "other")))
    loaded = SimpleNamespace(config=config, renderer=CopyingRenderer(scenes), scenes=kept, identity={"step": 1, "steps": 1})
    monkeypatch.setitem(sys.modules, "semflow.engine.loading", SimpleNamespace(load_run=lambda *_: loaded))
    return config


@pytest.mark.parametrize("baseline, folder", [([], "eval"), (["--baseline", "copying"], "eval_copying")])
def test_scenes_that_are_chosen_are_judged_in_a_folder_of_their_own(two_scenes, tmp_path, capsys, baseline, folder):
    (tmp_path / "config.txt").write_text(config_to_text(two_scenes))
    arguments = ["evaluate", "--run", str(tmp_path), "--device", "cpu", *baseline]
    assert main(arguments) == 0
    assert main([*arguments, "--scene", "other"]) == 0 and "replacing" not in capsys.readouterr().out
    for name, scenes in ((folder, ["toy", "other"]), (f"{folder}_other", ["other"])):
        metrics = json.loads((tmp_path / name / "corrected" / "metrics.json").read_text())
        assert list(metrics["scenes"]) == scenes
    assert main([*arguments, "--scene", "third"]) == 2
    assert "scene = 'third': the run holds toy, other" in capsys.readouterr().err


def test_pictures_of_another_program_are_judged_with_a_run_or_without(two_scenes, tmp_path, capsys):
    (tmp_path / "config.txt").write_text(config_to_text(two_scenes))
    arguments = ["evaluate", "--run", str(tmp_path), "--device", "cpu"]
    assert main([*arguments, "--save"]) == 0
    theirs = str(tmp_path / "eval" / "corrected")
    assert main([*arguments, "--pictures", theirs]) == 0
    without = ["--config", str(tmp_path / "config.txt"), "--out", str(tmp_path / "theirs"), "--device", "cpu"]
    assert main(["evaluate", "--pictures", theirs, *without]) == 0
    first, *others = (json.loads((folder / "corrected" / "metrics.json").read_text()) for folder in (
        tmp_path / "eval", tmp_path / "eval_pictures", tmp_path / "theirs" / "eval_pictures"))
    for other in others:
        assert other["evaluated"] == {"pictures": theirs}
        assert other["mean"]["training"]["ours"]["miou"] == first["mean"]["training"]["ours"]["miou"] is not None
    capsys.readouterr()
    for wrong, reason in ((["--baseline", "copying"], "not allowed with"), (["--set", "render.samples=3"], "leave out")):
        assert main([*arguments, "--pictures", theirs, *wrong]) == 2
        assert reason in capsys.readouterr().err


def test_a_run_and_a_configuration_are_too_much(tmp_path, capsys):
    assert main(["evaluate", "--baseline", "flow", "--run", str(tmp_path), "--config", "some.txt"]) == 2
    assert capsys.readouterr().err == (
        "semflow: error: evaluate: give --run RUN, or the --config FILE and --out FOLDER of a baseline, not both\n")


def test_a_mistyped_run_is_not_made_beside_a_checkpoint(read, asked, tmp_path, capsys):
    arguments = ["evaluate", "--run", str(tmp_path / "runn"), "--checkpoint", "step.safetensors", "--device", "cpu"]
    assert main(arguments) == 2 and not list(tmp_path.iterdir())
    assert "runn: no such run folder" in capsys.readouterr().err
    assert main([*arguments, "--into", str(tmp_path / "out")]) == 0 and not (tmp_path / "runn").exists()


def test_data_of_other_classes_than_the_run_was_trained_on_are_refused(read, asked, tmp_path, capsys, monkeypatch):
    scene = fake_scene("toy")
    reversed_map = LabelMap(("c", "b", "a"), scene.label_map.colors, (1, 2))
    monkeypatch.setattr(loader, "load_scene", lambda *_: replace(scene, label_map=reversed_map))
    assert main(["evaluate", "--run", str(tmp_path), "--device", "cpu", "--data_dir", "other"]) == 2
    said = capsys.readouterr().err
    assert "other/toy" in said and "c, b, a, those of the checkpoint a, b, c" in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [["--every", "0"], ["--protocol", "published"], ["--proto", "paper"]])
def test_bad_options_are_one_line_and_status_2(wrong, tmp_path, capsys):
    assert main(["evaluate", "--run", str(tmp_path), *wrong]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_offers_every_protocol_and_baseline():
    assert set(command.PROTOCOL_NAMES) == set(PROTOCOLS)
    assert set(command.BASELINE_NAMES) == set(BASELINES)


def test_a_baseline_takes_the_place_of_the_model_on_the_data_of_a_run(read, asked, tmp_path, capsys):
    config = replace(Config(), data=DataConfig(scenes=("toy",), labelled_frames="0-1"))
    (tmp_path / "config.txt").write_text(config_to_text(config))
    arguments = ["evaluate", "--run", str(tmp_path), "--baseline", "copying", "--device", "cpu"]
    assert main(arguments) == 0
    assert not asked and (tmp_path / "eval_copying" / "corrected" / "metrics.json").is_file()
    assert main([*arguments, "--set", "render.samples=9"]) == 2
    assert "--set" in capsys.readouterr().err


def test_a_baseline_needs_no_run(read, tmp_path):
    arguments = ["evaluate", "--baseline=copying", "--scene", "toy", "--data.labelled_frames", "0", "--device", "cpu"]
    assert main([*arguments, "--out", str(tmp_path), "--protocol", "paper"]) == 0
    written = json.loads((tmp_path / "eval_copying" / "paper" / "metrics.json").read_text())
    assert written["evaluated"] == {"baseline": "copying"}
    assert written["scenes"]["toy"]["labelled_frames"] == [0] and not (tmp_path / "config.txt").exists()


def test_a_baseline_leaves_the_evaluation_of_the_model_as_it_is(read, tmp_path):
    """A configuration that was trained before gives both the same run folder."""
    model = tmp_path / "eval" / "corrected" / "metrics.json"
    model.parent.mkdir(parents=True)
    model.write_text("of the model")
    (tmp_path / "mine.txt").write_text(f"out = {tmp_path}\ndata.scenes = [toy]\ndevice = cpu\n")
    arguments = ["evaluate", "--baseline", "copying", "--config", str(tmp_path / "mine.txt")]
    assert main(arguments) == 0 and main([*arguments, "--into", str(tmp_path / "elsewhere")]) == 0
    assert model.read_text() == "of the model" and list(model.parent.iterdir()) == [model]
    assert (tmp_path / "eval_copying" / "corrected" / "metrics.json").is_file()
    assert (tmp_path / "elsewhere" / "corrected" / "metrics.json").is_file()


@pytest.mark.parametrize("spelling", ["--labels_dir", "--labels-dir"])
def test_the_root_of_the_labels_has_two_spellings(spelling, read, asked, tmp_path):
    assert main(["evaluate", "--run", str(tmp_path), "--device", "cpu", spelling, "elsewhere"]) == 0
    assert read[0].labels_dir == "elsewhere"


@pytest.mark.parametrize("wrong", [["--every", "0"], ["--no_such_key", "1"], ["--baseline", "best"]])
def test_bad_options_of_a_baseline_are_one_line_and_status_2(wrong, tmp_path, capsys):
    known = [] if "--baseline" in wrong else ["--baseline", "flow"]
    assert main(["evaluate", "--out", str(tmp_path), *known, *wrong]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_labels_that_training_is_not_given_cannot_reach_a_baseline(read, monkeypatch):
    def baseline_labels(poison):
        def load_scene(config, name, device):
            scene = fake_scene(name)
            labels = torch.stack([scene.labels[0], torch.full((12, 12), poison), scene.labels[2]])
            return replace(scene, labels=labels, rgb=torch.zeros(3, 12, 12, 3))

        monkeypatch.setattr(loader, "load_scene", load_scene)
        (scene,), _ = command.load_scenes(DataConfig(scenes=("toy",), labelled_frames="0,2"), "cpu")
        flow = build_baseline("flow", {"toy": scene})
        return flow.render("toy", scene.cameras, 1, 1.0, frozenset({"semantic"})).labels

    assert torch.equal(baseline_labels(1), baseline_labels(2))
