"""The benchmark command: its table, its JSON and its options; the measuring itself runs on a tiny case."""

import json

import pytest

from semflow.cli.main import main
from semflow.engine import benchmark

TINY = ["--height", "16", "--width", "24", "--rays", "8", "--samples", "6", "--frames", "3", "--repeats", "1", "--threads", "1",
        "--device", "cpu"]


@pytest.fixture
def in_this_process(monkeypatch):
    """A process per case keeps peaks of memory apart; the figures do not matter here, the time of starting does."""
    monkeypatch.setattr(benchmark, "PRODUCT_SIZE", 64)
    monkeypatch.setattr(benchmark, "measure", benchmark.measure_here)


def test_fast_form_is_measured_and_written(in_this_process, tmp_path, capsys):
    file = tmp_path / "figures.json"
    assert main(["benchmark", "--preset", "fast", "--json", str(file), *TINY]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["static", "dynamic", "render"]
    found = json.loads(file.read_text())
    assert set(found["cases"]) == {"static", "dynamic", "render"}
    for figures in found["cases"].values():
        assert figures["seconds"] > 0 and figures["products"] > 0 and figures["peak_bytes"] > 0
    assert found["config"]["dynamic_stage"]["rays"] == 8


def test_published_preset_has_the_published_networks_and_losses(tmp_path):
    import argparse

    from semflow.cli import benchmark as command
    from semflow.config.schema import PAPER_DYNAMIC_LOSSES, ModelConfig

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    config = command.benchmark_config(parser.parse_args([]), 1024, 64)
    assert config.model == ModelConfig() and config.dynamic_stage.losses == PAPER_DYNAMIC_LOSSES
    assert config.dynamic_stage.rays == 1024 and config.static_stage.samples == 64


def test_unknown_case_is_one_line(capsys):
    assert main(["benchmark", "--cases", "static,dynamo"]) == 2
    assert "dynamo" in capsys.readouterr().err
