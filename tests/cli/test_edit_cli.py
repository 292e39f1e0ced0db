"""`semflow edit` with a run whose views are known in closed form."""

import argparse
import json

import numpy as np
import pytest
from edit_toys import Balls, ToyRun, renderer_of

from semflow.cli import edit
from semflow.tasks.editing.edit_file import OPERATIONS
from semflow.utils.errors import ConfigError
from semflow.viz.video import read_png

SHORT = ("--path", "fixed-view", "--frames", 2, "--device", "cpu")


@pytest.fixture
def asked(monkeypatch):
    """The run folders that were read; the run is the toy one."""
    folders = []

    def load_run(folder, *_):
        folders.append(folder)
        return ToyRun(renderer_of(Balls(), samples=32))

    monkeypatch.setattr("semflow.engine.loading.load_run", load_run)
    return folders


def parsed(*arguments) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    edit.add_arguments(parser)
    return parser.parse_args([str(a) for a in arguments])


def call(*arguments) -> int:
    return edit.run(parsed(*arguments))


def done(folder) -> list[str]:
    """The operations of the edit file in a folder."""
    return [item["do"] for item in json.loads((folder / "edits.json").read_text())["edits"]]


def test_every_operation_of_the_edit_file_has_an_option():
    assert {*edit.OPTIONS, "background"} == set(OPERATIONS)


def test_results_lie_beside_the_edits_and_a_replay_is_identical(asked, tmp_path, capsys):
    options = ("--move", "ball:0.3,0.1,0", "--recolour", "ball:#0000ff", "--move", "ball:0,0.1,0", "--opacity", "right:0.5")
    assert call("--run", tmp_path, *options, "--name", "one", *SHORT) == 0
    out = tmp_path / "edits" / "one"
    assert {p.name for p in out.iterdir()} == {"edits.json", "before_after.png", "rgb", "rgb.mp4"}
    assert done(out) == ["move", "recolour", "move", "opacity"]
    assert str(out / "edits.json") in capsys.readouterr().out
    assert call("--run", tmp_path, "--edits", out / "edits.json", "--name", "two", *SHORT) == 0
    for name in ("edits.json", "before_after.png", "rgb/0000.png", "rgb/0001.png"):
        assert (out / name).read_bytes() == (tmp_path / "edits" / "two" / name).read_bytes()
    assert asked == [tmp_path, tmp_path]


def test_an_edit_of_the_same_name_is_replaced_with_a_note(asked, tmp_path, capsys):
    for kind, noted in (("remove", False), ("keep", True)):
        call("--run", tmp_path, f"--{kind}", "ball", *SHORT)
        assert (f"replacing the earlier edit in {tmp_path / 'edits' / 'edit'}" in capsys.readouterr().out) is noted
    assert done(tmp_path / "edits" / "edit") == ["keep"]


def test_before_and_after_differ_where_something_is_removed(asked, tmp_path):
    call("--run", tmp_path, "--remove", "ball", "--out", tmp_path / "o", *SHORT)
    both = read_png(tmp_path / "o" / "before_after.png").astype(int)
    half = both.shape[0] // 2
    red = np.abs(both - [230, 26, 26]).max(-1) < 12
    assert red[:half].sum() > 10 and not red[half + 1 :].any()


def test_a_file_comes_before_the_options(asked, tmp_path):
    (tmp_path / "e.json").write_text('{"version": 1, "edits": [{"do": "remove", "what": ["right"]}]}')
    call("--run", tmp_path, "--freeze", "moving:1", "--edits", tmp_path / "e.json", "--out", tmp_path / "o", *SHORT)
    assert done(tmp_path / "o") == ["remove", "freeze"]


def test_the_list_names_what_is_there(asked, tmp_path, capsys):
    assert call("--run", tmp_path, "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["#1", "ball#1", "dynamic"], ["#2", "wall#1", "static"], ["#3", "right#1", "static"]]
    picture = tmp_path / "edits" / "toy_instances.png"
    assert lines[-1] == str(picture) and read_png(picture).ndim == 3


@pytest.mark.parametrize(("option", "record"), [
    (("--keep", "ball+static"), {"do": "keep", "what": ["ball", "static"]}),
    (("--recolour", "ball#1:#ff8000"), {"do": "recolour", "what": ["ball#1"], "colour": [1.0, 0.502, 0.0]}),
    (("--duplicate", "10,4@2:twin:0.1,0,-1"),
     {"do": "duplicate", "what": ["10,4@2"], "as": "twin", "by": [0.1, 0.0, -1.0]}),
    (("--speed", "ball:-1"), {"do": "speed", "what": ["ball"], "factor": -1.0}),
    (("--speed", "ball:-1:2"), {"do": "speed", "what": ["ball"], "factor": -1.0, "from": 2.0}),
    (("--background", "runs/a:room"), {"do": "background", "run": "runs/a", "scene": "room"}),
    (("--background", "room"), {"do": "background", "scene": "room"})])
def test_options_are_records_of_the_file(option, record):
    (given,) = parsed("--run", "r", *option).operations
    assert edit.record(*given) == record


@pytest.mark.parametrize(("arguments", "message"), [
    ((), "no edits are given"), (("--move", "ball"), "write it as WHAT:X,Y,Z"),
    (("--move", "ball:1,b,2"), "write it as WHAT:X,Y,Z"), (("--recolour", "ball:red"), "#RRGGBB"),
    (("--speed", "ball:1:2:3"), r"write it as WHAT:FACTOR\[:FROM\]"), (("--speed", "ball"), "write it as WHAT:FACTOR"),
    (("--move", "ball:1,2"), r"--move ball:1,2.by = .*: must be three numbers"),
    (("--opacity", "ball:2"), r"value = 2.0: must be a number between 0 and 1"), (("--remove", "ball:1"), "write it as WHAT$"),
    (("--remove", "cat"), r"edits\[0\].what = 'cat'"), (("--remove", "ball", "--size", "5"), "WIDTHxHEIGHT")])
def test_bad_options_are_one_line_and_write_nothing(asked, tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message) as caught:
        call("--run", tmp_path, *arguments)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []
