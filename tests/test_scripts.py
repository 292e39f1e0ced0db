"""The scripts that are not one line: options as those of the commands, errors as theirs."""

import runpy
import sys
from pathlib import Path

import pytest
from benchmark_toys import MEASURED

from semflow.engine import benchmark

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


def call(monkeypatch, name: str, *arguments: str) -> int:
    """Exit status of a script."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    try:
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
    except SystemExit as stop:
        return stop.code
    return 0


def test_make_scene_is_the_command(monkeypatch, tmp_path, capsys):
    size = ("--frames", "3", "--height", "24", "--width", "32")
    assert call(monkeypatch, "make_scene", "--root", str(tmp_path), "--name", "a", *size) == 0
    assert (tmp_path / "a" / "scene.json").is_file() and capsys.readouterr()
    assert call(monkeypatch, "make_scene", "--root", str(tmp_path), "--shift", "ball") == 2
    assert capsys.readouterr().err == (
        "semflow: error: argument --shift: 'ball': write it as KIND:X,Y,Z; see semflow make-scene --help\n")


def test_several_presets_are_measured_in_several_processes_too(monkeypatch, capsys):
    asked = []

    def measured(settings, case, in_a_row):
        asked.append((case, in_a_row))
        return MEASURED

    monkeypatch.setattr(benchmark, "measure_here", measured)
    assert call(monkeypatch, "measure_ranks", "--preset", "small,fast", "--device", "cpu") == 0
    assert asked == [("static", 1), ("dynamic", 1), ("static", 10), ("dynamic", 10)]
    assert [line.split(" step")[0] for line in capsys.readouterr().out.splitlines()] == [
        "small, static", "small, dynamic", "fast, static", "fast, dynamic"]


@pytest.mark.parametrize("wrong", [("--preset", "huge"), ("--rays", "0"), ("--ray", "5")])
def test_bad_options_of_measure_ranks_are_one_line(monkeypatch, capsys, wrong):
    assert call(monkeypatch, "measure_ranks", *wrong) == 2
    said = capsys.readouterr().err
    assert said.startswith("measure_ranks: error: ") and said.count("\n") == 1
