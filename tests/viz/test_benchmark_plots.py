"""Plots of benchmark records: which files, from which figures; with matplotlib also what is drawn."""

import importlib.util
import json

import pytest
from benchmark_toys import made_up_part

from semflow.cli.main import main
from semflow.engine.benchmark_report import make_record
from semflow.utils.files import write_json
from semflow.viz import benchmark_plots

NEEDS_MATPLOTLIB = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason='matplotlib is not installed: pip install -e ".[plots]"')


def record(*names: str) -> dict:
    return json.loads(json.dumps(make_record([made_up_part(name) for name in names])))


def test_without_matplotlib_the_command_says_what_to_install(monkeypatch, tmp_path, capsys):
    write_json(tmp_path / "record.json", record("fast"))
    monkeypatch.setattr(benchmark_plots, "find_spec", lambda name: None)
    assert main(["benchmark", "--read", str(tmp_path / "record.json"), "--plots", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert 'pip install -e ".[plots]"' in error and error.count("\n") == 1


def test_parts_of_one_name_are_told_apart_by_the_commit():
    first, second = record("fast", "small"), record("fast")
    first["conditions"]["commit"], second["conditions"]["commit"] = "abc", "def"
    labels = [label for label, _ in benchmark_plots.labelled_parts([first, second], "stages")]
    assert labels == ["fast (abc)", "small", "fast (def)"]
    second["parts"][0]["sweeps"] = {}
    assert [label for label, _ in benchmark_plots.labelled_parts([first, second], "sweeps")] == ["fast", "small"]


@NEEDS_MATPLOTLIB
def test_a_file_per_kind_of_figure(tmp_path):
    import imageio.v3 as iio

    files = benchmark_plots.draw_plots([record("published", "fast")], tmp_path)
    assert [path.name for path in files] == ["benchmark_stages.png", "benchmark_sweeps.png", "benchmark_quality.png"]
    for path in files:
        picture = iio.imread(path)
        assert min(picture.shape[:2]) > 300 and picture.std() > 10
    nothing = record("fast")
    nothing["parts"][0] |= {"stages": {}, "sweeps": {}, "quality": None}
    assert benchmark_plots.draw_plots([nothing], tmp_path / "none") == []


@NEEDS_MATPLOTLIB
def test_bars_and_curves_have_the_values_of_the_record():
    parts = benchmark_plots.labelled_parts([record("published", "fast")], "stages")
    (left, right) = benchmark_plots.draw_stages(parts).axes
    assert [bar.get_width() for bar in right.patches] == pytest.approx([10.0] * 12)
    assert "published" in left.get_title() and left.get_xlabel().endswith("(ms)")
    time, memory = benchmark_plots.draw_sweeps(parts).axes
    assert time.lines[0].get_xydata().tolist() == [[4, 2.0], [8, 2.0]] and time.lines[0].get_label() == "published"
    assert memory.lines[1].get_ydata().tolist() == [1.0, 1.0] and memory.get_ylabel() == "peak memory (GB)"
    psnr, miou = benchmark_plots.draw_quality(parts).axes
    minutes = psnr.lines[0].get_xdata()
    assert minutes == pytest.approx([61 / 60, 122 / 60]) and psnr.lines[0].get_ydata().tolist() == [21.0, 22.0]
    assert miou.lines[1].get_ydata() == [0.7, 0.7] and "copying" in miou.lines[1].get_label()
