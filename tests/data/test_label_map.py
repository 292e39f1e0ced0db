"""Classes and label colours."""

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from layout_fixture import COLORS, LABELMAP, write_classes

from semflow.data.label_map import read_classes, read_label_map, read_labels, static_ids
from semflow.data.layout import ScenePaths
from semflow.data.problems import BrokenFile, Collector
from semflow.utils.errors import ConfigError


def _paths(root: Path, name: str = "Tiny") -> ScenePaths:
    return ScenePaths(root / name, (root,), name)


def test_ids_are_lines(tmp_path):
    write_classes(tmp_path)
    classes = read_label_map(_paths(tmp_path), (), needed=True)
    assert classes.names == ("background", "wall", "ball", "person")
    assert classes.colors.tolist() == COLORS.tolist()
    assert classes.foreground == classes.listed_foreground == (2, 3)


def test_static_classes_of_this_scene_leave_the_foreground_only(tmp_path):
    write_classes(tmp_path)
    entries = ("Tiny:person", "Other:ball")
    classes = read_label_map(_paths(tmp_path), entries, needed=True)
    assert classes.foreground == (2,) and classes.listed_foreground == (2, 3)
    assert read_label_map(_paths(tmp_path, "Other"), entries, needed=True).foreground == (3,)


@pytest.mark.parametrize(
    ("entry", "word"), [("Tiny:dog", "no class dog"), ("person", "Scene:class"), (":ball", "Scene:class")]
)
def test_wrong_static_class(tmp_path, entry, word):
    write_classes(tmp_path)
    with pytest.raises(ConfigError, match=word):
        static_ids((entry,), "Tiny", read_classes(tmp_path / "labelmap.txt"))


def test_windows_line_ends_and_blank_lines_are_fine(tmp_path):
    (tmp_path / "labelmap.txt").write_bytes(b"\xef\xbb\xbf" + LABELMAP.replace("\n", "\r\n\r\n").encode())
    assert read_classes(tmp_path / "labelmap.txt").names == ("background", "wall", "ball", "person")


BROKEN = {
    "no header": (LABELMAP.split("\n", 1)[1], "header line"),
    "no colour": ("# header\nwall\n", "line 2, 'wall', is not a class"),
    "two channels": ("# header\nwall:1,2::\n", "line 2"),
    "beyond a byte": ("# header\nwall:1,2,256::\n", "0..255"),
    "negative": ("# header\nwall:1,2,-3::\n", "0..255"),
    "no name": ("# header\n:1,2,3::\n", "is not a class"),
    "name twice": ("# header\nwall:1,2,3::\nwall:4,5,6::\n", "line 3 names the class wall a second time"),
    "colour twice": ("# header\nwall:1,2,3::\nball:1,2,3::\n", "line 3 gives ball the colour (1, 2, 3) of another"),
    "header only": ("# header\n", "names no class"),
    "empty": ("", "0 bytes"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_labelmap(tmp_path, kind):
    text, words = BROKEN[kind]
    (tmp_path / "labelmap.txt").write_text(text)
    with pytest.raises(BrokenFile) as caught:
        read_classes(tmp_path / "labelmap.txt")
    assert words in str(caught.value) and "labelmap.txt" in str(caught.value)


def test_every_bad_line_is_reported(tmp_path):
    (tmp_path / "labelmap.txt").write_text("# header\nbackground:0,0,0::\nwall\nball:300,0,0::\nsky:0,0,0::\n")
    collector = Collector()
    assert read_classes(tmp_path / "labelmap.txt", collector).names == ("background",)
    assert [problem.what.split(",")[0].split(" gives")[0] for problem in collector.problems] == [
        "line 3",
        "line 4",
        "line 5",
    ]


def test_unknown_foreground_class(tmp_path):
    write_classes(tmp_path)
    (tmp_path / "foreground_object.txt").write_text("ball\nbaloon\n")
    with pytest.raises(
        BrokenFile, match="foreground_object.txt: names the class baloon.*background, wall, ball, person"
    ):
        read_label_map(_paths(tmp_path), (), needed=True)


def test_no_class_may_move(tmp_path):
    write_classes(tmp_path)
    (tmp_path / "foreground_object.txt").write_text("# none\n")
    assert read_label_map(_paths(tmp_path), (), needed=True).foreground == ()


def test_labelmap_may_be_missing_without_labels(tmp_path):
    assert read_label_map(_paths(tmp_path), (), needed=False).names == ("background",)
    with pytest.raises(BrokenFile, match="labelmap.txt: no such file"):
        read_label_map(_paths(tmp_path), (), needed=True)


def test_label_colours_become_ids(tmp_path):
    write_classes(tmp_path)
    ids = np.random.default_rng(0).integers(0, 4, (6, 9))
    iio.imwrite(tmp_path / "000.png", COLORS[ids])
    classes = read_classes(tmp_path / "labelmap.txt")
    read = read_labels(tmp_path / "000.png", classes)
    assert read.dtype == np.int64 and (read == ids).all()
    assert (read_labels(tmp_path / "000.png", classes, (2, 3)) == ids[1::3, 1::3]).all()


@pytest.mark.parametrize("color", [(1, 20, 30), (255, 255, 255), (0, 0, 1)])
def test_unknown_colour_is_named_with_its_pixel(tmp_path, color):
    write_classes(tmp_path)
    image = COLORS[np.ones((6, 9), dtype=int)]
    image[4, 7] = color
    iio.imwrite(tmp_path / "000.png", image)
    with pytest.raises(BrokenFile) as caught:
        read_labels(tmp_path / "000.png", read_classes(tmp_path / "labelmap.txt"))
    assert f"colour {color} at pixel x 7, y 4" in str(caught.value) and "1 such" in str(caught.value)
