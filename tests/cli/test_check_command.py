"""`semflow check` as the dispatcher calls it."""

import argparse
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))

from layout_fixture import write_classes, write_labels, write_scene  # noqa: E402

from semflow.cli import check  # noqa: E402


def _run(*arguments) -> int:
    parser = argparse.ArgumentParser(description=check.__doc__, allow_abbrev=False)
    check.add_arguments(parser)
    return check.run(parser.parse_args([str(argument) for argument in arguments]))


def test_good_data(tmp_path, capsys):
    write_scene(tmp_path, "A")
    write_scene(tmp_path, "B")
    assert _run(tmp_path) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["A", "B"]
    assert _run(tmp_path, "--scene", "B", "--factor", "1") == 0
    assert capsys.readouterr().out.startswith("B: 3 frames of 16x12")


def test_problems_are_lines_and_status_two(tmp_path, capsys):
    scene = write_scene(tmp_path, "A")
    write_scene(tmp_path, "B")
    (scene / "disp/001.npy").unlink()
    (scene / "poses_bounds.npy").write_bytes(b"")
    assert _run(tmp_path) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{scene}/poses_bounds.npy: is empty (0 bytes); estimate the cameras")
    assert lines[1].startswith(f"{scene}/disp/001.npy: no such file; ")
    assert lines[2].startswith("B: 3 frames") and lines[3].startswith("2 problem(s)")
    assert _run(tmp_path / "none") == 2


@pytest.mark.parametrize("spelling", ["--labels_dir", "--labels-dir"])
def test_labels_under_a_second_root(spelling, tmp_path, capsys):
    write_scene(tmp_path / "data", labels=False)
    write_classes(tmp_path)
    write_labels(tmp_path / "Tiny/SegmentationClass_train")
    assert _run(tmp_path / "data", spelling, tmp_path) == 0
    assert "3 labelled frames" in capsys.readouterr().out
