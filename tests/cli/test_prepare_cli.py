"""`semflow prepare` from frames to a run."""

import cv2
import pytest

from semflow.cli.main import main
from semflow.data.synthetic import make_scene

SHORT = ("--static_stage.steps", "2", "--flow_stage.steps", "2", "--dynamic_stage.steps", "2", "--device", "cpu")


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    return make_scene(tmp_path_factory.mktemp("truth"), "room", seed=3, frames=4, height=54, width=96, objects=("ball",))


def test_frames_become_a_scene_that_trains(room, tmp_path, capsys, monkeypatch):
    poses = ("--poses", str(room / "poses_bounds.npy"))
    assert main(["prepare", str(room / "images"), "--root", str(tmp_path), "--scene", "mine", "--label-moving", *poses]) == 0
    said = capsys.readouterr().out
    assert "frames: 4 of 4 of" in said and "4 labelled frames" in said
    assert cv2.imread(str(tmp_path / "mine" / "prepared.png")).shape[2] == 3
    command = said.split("train: semflow ")[1].split()
    run = tmp_path / "run"
    command[command.index("--out") + 1] = str(run)
    command[command.index("--data.factor") + 1] = "2"
    assert main([*command, *SHORT]) == 0
    assert (run / "finished.json").is_file()


@pytest.mark.parametrize(("arguments", "message"), [
    (["none.mp4", "--scene", "a"], "none.mp4: no such file or folder"),
    (["none.mp4"], "the following arguments are required: --scene"),
    (["none.mp4", "--scene", "a", "--frames", "1"], "--frames 1: must be at least 2"),
    (["none.mp4", "--scene", "a", "--raft-weights", "no.pth"], "no.pth: no such weight file"),
])
def test_mistakes_are_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())
