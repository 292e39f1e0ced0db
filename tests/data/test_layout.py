"""Order of the files of a scene."""

import pytest

from semflow.data.layout import IMAGES, list_folder


@pytest.mark.parametrize(("names", "expected"), [
    (("0", "1", "2", "10", "11"), ["0", "1", "2", "10", "11"]),
    (("000", "002", "010"), ["000", "002", "010"]),
    (("a10", "a2"), ["a10", "a2"]),
])
def test_numbered_frames_are_in_the_order_of_time(tmp_path, names, expected):
    for name in names:
        (tmp_path / f"{name}.png").touch()
    (tmp_path / ".hidden.png").touch()
    assert list(list_folder(tmp_path, IMAGES)) == expected
