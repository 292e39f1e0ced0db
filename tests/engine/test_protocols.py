"""Which image counts where: 0-based, worked out by hand."""

import pytest

from semflow.engine.protocols import HELD_OUT, PROTOCOLS, TRAINING, SeenInTraining, find_protocol
from semflow.utils.errors import ConfigError

ALL_FRAMES = range(12)


def seen(labelled=ALL_FRAMES, colored=ALL_FRAMES, views=True):
    return SeenInTraining(12, tuple(labelled), tuple(colored), color_views=views, label_views=views)


def counted(group, name):
    """(time, camera) pairs of 12 x 12 that `group` puts under `name`."""
    return {(t, c) for t in ALL_FRAMES for c in ALL_FRAMES if group(t, c) == name}


def test_full_labels_hold_out_every_other_camera():
    for group in (seen().color_group, seen().label_group):
        assert counted(group, HELD_OUT) == {(t, c) for t in ALL_FRAMES for c in ALL_FRAMES if t != c}
        assert counted(group, TRAINING) == {(t, t) for t in ALL_FRAMES}


def test_tracking_75_judges_labels_at_times_9_to_11_and_not_10_to_12():
    task = seen(labelled=range(9))
    assert counted(task.label_group, HELD_OUT) == {(t, c) for t in (9, 10, 11) for c in ALL_FRAMES if t != c}
    assert counted(task.label_group, TRAINING) == {(t, t) for t in range(9)}
    assert len(counted(task.color_group, HELD_OUT)) == 132


def test_completion_25_judges_the_middle():
    task = seen(labelled=(0, 1, 11))
    assert {t for t, _ in counted(task.label_group, HELD_OUT)} == set(range(2, 11))


def test_without_any_labels_every_other_camera_counts():
    assert len(counted(seen(labelled=()).label_group, HELD_OUT)) == 132
    assert not counted(seen(labelled=()).label_group, TRAINING)


def test_without_other_views_the_unlabelled_frames_are_held_out():
    task = seen(labelled=range(9), views=False)
    assert [task.label_group(t, t) for t in ALL_FRAMES] == [TRAINING] * 9 + [HELD_OUT] * 3
    assert [task.color_group(t, t) for t in ALL_FRAMES] == [TRAINING] * 12
    task = seen(labelled=range(9), colored=range(9), views=False)
    assert [task.color_group(t, t) for t in ALL_FRAMES] == [TRAINING] * 9 + [HELD_OUT] * 3


def test_protocols_are_named_versioned_and_explained():
    assert [find_protocol(name).version for name in ("paper", "corrected")] == ["paper-1", "corrected-1"]
    assert find_protocol("paper").headline == "all" and find_protocol("corrected").headline == "held_out"
    for protocol in PROTOCOLS.values():
        choices = protocol.to_json()
        assert set(choices["rules"]) == set(protocol.groups)
    versions = [find_protocol(name).version for name in ("paper", "corrected")]
    assert versions == ["paper-1", "corrected-1"]


def test_an_unknown_protocol_names_the_known():
    with pytest.raises(ConfigError, match="paper, corrected"):
        find_protocol("published")
