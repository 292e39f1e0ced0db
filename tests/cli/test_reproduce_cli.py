"""`semflow reproduce`: options, and whole tables on tiny scenes."""

import argparse
import json
from pathlib import Path

import pytest

from semflow.cli import reproduce
from semflow.cli.main import main
from semflow.data.synthetic import make_scene
from semflow.tasks.reproduce.plan import BUDGETS
from semflow.viz.video import read_png

SETTINGS = [
    *(f"{stage}.{key}={value}" for stage in ("static_stage", "flow_stage", "dynamic_stage") for key, value in (
        ("steps", 8), ("rays", 16), ("samples", 6), ("surface_samples", 2), ("warmup_steps", 2))),
    "model.plane_levels=[8]", "model.plane_channels=4", "model.static_width=8", "model.dynamic_width=8", "model.flow_width=8",
    "render.samples=6", "render.fine_samples=0", "render.occupancy=0", "train.images_every=0", "train.save_every=4"]


def test_the_budgets_of_the_help_are_those_that_exist():
    assert set(reproduce.BUDGET_NAMES) == set(BUDGETS)


def test_lists_that_are_given_twice_add_up():
    parser = argparse.ArgumentParser()
    reproduce.add_arguments(parser)
    options = ("scene", "only", "tasks", "set")
    words = [word for option in options for word in (f"--{option}", "a", "b", f"--{option}", "c")]
    assert [getattr(parser.parse_args(["full", *words]), option) for option in options] == [["a", "b", "c"]] * 4
    assert [getattr(parser.parse_args(["full"]), option) for option in options] == [[]] * 4  # the defaults are as they were


@pytest.mark.parametrize("words, message", [
    (["tracks"], "table 'tracks': choose one of full"),
    (["full", "--only", "best"], "only = 'best': full has"),
    (["tracking", "--tasks", "full"], "tasks = 'full': tracking has"),
    (["weak", "full", "--only", "flow_noise_05"], "only = 'flow_noise_05': weak, full has"),
    (["ablations", "--only", "encoder_joint"], "the budget small leaves it out; take a larger one by --budget"),
    (["full", "--jobs", "-1"], "jobs = -1"),
    (["full", "--set", "dynamic_stage.step=3"], "there is no such key; did you mean dynamic_stage.steps"),
    (["full", "--set", "out=runs/mine"], "set = 'out=runs/mine': each run has its own out; the folder of all is named by --runs"),
    (["full", "--set", "render.samples=8", "data.scenes = a"], "scenes are named by --scene"),
    (["adaptation", "--set", "init=a.safetensors"], "which run starts from which is part of the table"),
    (["adaptation", "--scene", "One"], "at least two scenes"),
])
def test_wrong_options_are_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("semflow.data.synthetic.make_missing_scenes", lambda root, names: [])
    assert main(["reproduce", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_name_that_one_of_several_tables_has_chooses_there_alone(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["weak", "full", "robustness", "--only", "flow_noise_05", "copying", "--collect", "--no-figures"]
    assert main(["reproduce", *words]) == 0
    assert [path.name for path in sorted(tmp_path.glob("results/small/*.csv"))] == ["full.csv", "robustness.csv"]


@pytest.mark.parametrize("part", [["--only", "ours"], ["--tasks", "weak_scribbles"], []])
def test_a_part_of_a_table_that_takes_its_files_is_told(part, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "weak", "tracking", "--collect", "--no-figures", *part]) == 0
    told = [line.split(",")[0] for line in capsys.readouterr().out.splitlines() if "these rows only; --collect without" in line]
    expected = {"--only": ["results/small/tracking.md"], "--tasks": ["results/small/weak.md"]}  # ours is all that weak has
    assert told == (expected[part[0]] if part else [])


def test_a_run_on_each_device_or_several(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0}, raising=False)  # as under taskset, whatever cores there are
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert reproduce.device_slots("cpu", 0) == ["cpu"]
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1}, raising=False)
    assert reproduce.device_slots("cpu", 0) == ["cpu", "cpu"] and reproduce.device_slots("cpu", 3) == ["cpu"] * 3


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    for seed, name in enumerate(("one", "two")):
        make_scene(root, name, seed=seed, frames=4, height=32, width=48)
    return root


@pytest.mark.slow
def test_whole_tables(data, tmp_path, capsys):
    words = ["--data_dir", str(data), "--device", "cpu", "--jobs", "2", "--runs", str(tmp_path / "runs"),
             "--results", str(tmp_path / "results"), "--set", *SETTINGS, "data.labelled_frames=0,1"]
    assert main(["reproduce", "full", "--scene", "one", "--only", "ours", "depth", *words]) == 0
    assert main(["reproduce", "adaptation", "--scene", "one", "two", *words]) == 0
    folder = tmp_path / "results" / "small"
    full = json.loads((folder / "full-one.json").read_text())
    assert [(row["method"], len(row["runs"])) for row in full["rows"]] == [("ours", 1), ("depth", 1)]
    for row in full["rows"]:
        for group in ("new views", "own views, unlabelled times"):
            assert 0 <= row["metrics"][group]["miou_foreground"]["mean"] <= 1
    for kind, columns in (("views", 4), ("quantities", 5), ("edits", 1)):
        assert read_png(folder / f"full-one_full_{kind}.png").shape[1] >= columns * 48
    curve = json.loads((folder / "adaptation-one-two.json").read_text())["curve"]
    assert sorted({(point["task"], point["steps"]) for point in curve}) == [
        (task, steps) for task in ("adaptation", "adaptation_scratch") for steps in (20, 24)]  # 8 static ones and 8 of the flow network first
    capsys.readouterr()
    assert main(["reproduce", "full", "--scene", "one", "--only", "ours", "depth", "--tasks", "full", *words]) == 0
    assert "2 runs, 0 of them to do" in capsys.readouterr().out
