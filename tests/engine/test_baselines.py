"""The baselines by name, and that none of them sees what training does not."""

import pytest
import torch
from test_label_propagation import moving_pattern

from semflow.engine.baselines import BASELINES, build_baseline
from semflow.engine.evaluator import evaluate
from semflow.engine.protocols import find_protocol
from semflow.utils.errors import ConfigError

WHAT = frozenset({"rgb", "semantic"})


def test_copying_keeps_the_labels_in_place_and_flow_moves_them():
    scene, truth = moving_pattern((1, 0))
    views = {name: build_baseline(name, {"toy": scene}).render("toy", scene.cameras, 3, 3.0, WHAT) for name in ("copying", "flow")}
    assert torch.equal(views["copying"].labels, truth[1])
    assert torch.equal(views["flow"].labels[:, 2:], truth[3][:, 2:])
    other_camera = build_baseline("flow", {"toy": scene}).render("toy", scene.cameras, 0, 3.0, WHAT)
    assert torch.equal(other_camera.labels, views["flow"].labels) and torch.equal(other_camera.rgb, scene.rgb[3])


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_passes_the_evaluation(name, tmp_path):
    scene, truth = moving_pattern()
    result = evaluate(build_baseline(name, {"toy": scene}), [scene], tmp_path, find_protocol("paper"),
                      truth_labels={"toy": truth}, progress=False)
    assert 0 < result.headline["miou"] <= 1


def test_an_unknown_name_is_an_error_that_names_the_known():
    with pytest.raises(ConfigError, match="copying, flow, depth"):
        build_baseline("median", {})
