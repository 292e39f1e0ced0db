"""Atomic writing: the old content or the new, never half of it."""

import json
import os

import pytest

from semflow.utils.files import atomic_path, move_aside, write_bytes, write_json, write_text


def test_content_arrives_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "new folder" / "a.txt"
    write_text(path, "first ü\n")
    write_text(path, "second ü\n")
    assert path.read_bytes() == "second ü\n".encode()
    write_bytes(path, b"\x00\r\n")
    assert path.read_bytes() == b"\x00\r\n"
    assert [item.name for item in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failing_writer_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "a.png"
    path.write_text("old")
    with pytest.raises(error), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.png"]


def test_the_old_file_stands_until_the_end_and_the_suffix_is_kept(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path and temporary.suffix == ".png"
    assert path.read_text() == "new"


def test_files_have_the_usual_permissions(tmp_path):
    write_text(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_json(tmp_path):
    write_json(tmp_path / "a.json", {"x": [1, 0.1, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [1, 0.1, None]}
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [1, 0.1, None]}


def test_move_aside_of_a_path_without_a_name(tmp_path):
    (tmp_path / "run" / "inside").mkdir(parents=True)
    assert move_aside(tmp_path / "run" / "inside" / "..") == tmp_path / "run.bak-1"


def test_move_aside_takes_the_first_free_number(tmp_path):
    for number in (1, 2, 3):
        write_text(tmp_path / "run" / "a", str(number))
        assert move_aside(tmp_path / "run") == tmp_path / f"run.bak-{number}"
    assert (tmp_path / "run.bak-2" / "a").read_text() == "2" and not (tmp_path / "run").exists()
