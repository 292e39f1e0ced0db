"""Frame lists as text."""

import pytest

from semflow.data.frame_lists import parse_frames
from semflow.utils.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "frames"),
    [
        ("all", tuple(range(12))),
        ("none", ()),
        ("0-2", (0, 1, 2)),
        ("0,1,11", (0, 1, 11)),
        ("9-11, 0-2", (0, 1, 2, 9, 10, 11)),
        ("3,2-4,3", (2, 3, 4)),
        ("5-5", (5,)),
    ],
)
def test_frames(text, frames):
    assert parse_frames(text, 12) == frames


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no frame"),
        ("0,,2", "no frame"),
        ("a", "'a'"),
        ("-1", "'-1'"),
        ("1.5", "1.5"),
        ("4-2", "write 2-4"),
        ("12", "0-11"),
        ("0-12", "no frame 12"),
        ("all,3", "'all'"),
        ("²", "no frame"),
    ],
)
def test_nonsense_names_key_and_remedy(text, word):
    with pytest.raises(ConfigError, match="color_frames") as caught:
        parse_frames(text, 12, "color_frames")
    assert word in str(caught.value)
