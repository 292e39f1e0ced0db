"""The edit file: what it holds is what is read back, and what is wrong is one line."""

import json

import pytest

from semflow.tasks.editing.edit_file import OPERATIONS, checked_edit, read_edits, write_edits
from semflow.utils.errors import ConfigError

EDITS = [
    {"do": "remove", "what": ["balloon"]}, {"do": "keep", "what": ["ball#1", "static"]},
    {"do": "recolour", "what": ["3"], "colour": [1, 0.5, 0], "strength": 0.5},
    {"do": "opacity", "what": ["ball"], "value": 0.25},
    {"do": "move", "what": ["120,64@5"], "by": [0.2, 0, -1]}, {"do": "rotate", "what": ["ball"], "degrees": [0, 30, 0]},
    {"do": "scale", "what": ["ball"], "factor": 2}, {"do": "duplicate", "what": ["ball"], "as": "twin", "by": [0, 1, 0]},
    {"do": "delay", "what": ["ball"], "frames": 2.5}, {"do": "speed", "what": ["ball"], "factor": -1, "from": 3},
    {"do": "freeze", "what": ["moving"], "frame": 4}, {"do": "background", "scene": "room", "run": "runs/other"},
]


def test_every_operation_is_read_back(tmp_path):
    edits = [checked_edit(item, "here") for item in EDITS]
    assert [edit.do for edit in edits] == list(OPERATIONS)
    write_edits(tmp_path / "edits.json", edits)
    assert read_edits(tmp_path / "edits.json") == tuple(edits)
    assert json.loads((tmp_path / "edits.json").read_text())["edits"] == EDITS


def test_short_forms_and_defaults():
    edit = checked_edit({"do": "recolour", "what": "ball", "colour": [0, 0, 1]}, "here")
    assert edit.what == ("ball",) and edit.values == {"colour": (0.0, 0.0, 1.0), "strength": 1.0}
    assert checked_edit({"do": "remove", "what": 6}, "here").what == ("6",)
    assert checked_edit({"do": "background", "scene": "room"}, "here").to_json() == {"do": "background", "scene": "room"}


@pytest.mark.parametrize(("item", "message"), [
    ({"do": "vanish"}, r"do = 'vanish': choose one of remove"), ("remove", r"do = None: choose"),
    ({"do": "remove"}, r"what = \[\]: name what to remove"), ({"do": "remove", "what": [1.5]}, r"what = \[1.5\]"),
    ({"do": "remove", "what": ["a"], "by": [1, 2, 3]}, r"by: remove has no such key"),
    ({"do": "move", "what": ["a"]}, r"by: is missing; move needs three numbers"),
    ({"do": "move", "what": ["a"], "by": [1, 2]}, r"by = \[1, 2\]: must be three numbers"),
    ({"do": "move", "what": ["a"], "by": [1, 2, float("nan")]}, r"by = .*: must be three numbers"),
    ({"do": "opacity", "what": ["a"], "value": 1.5}, r"value = 1.5: must be a number between 0 and 1"),
    ({"do": "opacity", "what": ["a"], "value": True}, r"value = True"),
    ({"do": "scale", "what": ["a"], "factor": 0}, r"factor = 0: must be"),
    ({"do": "duplicate", "what": ["a"], "as": "2 b"}, r"as = '2 b': must be a name"),
    ({"do": "background", "what": ["a"], "scene": "b"}, r"what: background has no such key"),
    ({"do": "background"}, r"scene: is missing"),
])
def test_a_wrong_edit_is_one_line_that_names_the_key(item, message):
    with pytest.raises(ConfigError, match=r"^e.json: edits\[2\]." + message) as caught:
        checked_edit(item, "e.json: edits[2]")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["{", "[]", '{"version": 2, "edits": []}', '{"version": 1}'])
def test_a_wrong_file_is_named(tmp_path, content):
    path = tmp_path / "edits.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"edits.json: .*(JSON|edit file)"):
        read_edits(path)
    with pytest.raises(ConfigError, match=r"none.json: cannot be read"):
        read_edits(tmp_path / "none.json")
