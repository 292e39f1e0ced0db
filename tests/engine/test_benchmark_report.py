"""Records, their tables, and the comparison of two."""

import json
import math
from dataclasses import replace

import pytest
import torch
from benchmark_toys import made_up_part, tiny

from semflow.cli.main import main
from semflow.engine.benchmark_compare import compare
from semflow.engine.benchmark_report import Part, digits, format_record, make_record, read_record
from semflow.utils.errors import DataError
from semflow.utils.files import write_json


def saved(part: Part) -> dict:
    """The record of a part, through JSON."""
    return json.loads(json.dumps(make_record([part])))


def test_a_record_holds_conditions_settings_and_every_figure():
    found = saved(made_up_part())
    assert set(found) == {"format", "product", "conditions", "parts"} and found["format"] == "semflow benchmark 3"
    assert {"torch", "python", "cpu", "cores", "threads", "commit", "device", "system"} <= set(found["conditions"])
    assert found["conditions"]["torch"] == torch.__version__
    (part,) = found["parts"]
    assert set(part) == {"name", "load", "settings", "cases", "stages", "sweeps", "quality", "notes"}
    assert part["settings"]["width"] == 24 and part["settings"]["config"]["dynamic_stage"]["rays"] == 8
    measured = {"seconds", "product_seconds", "products", "peak_bytes", "setup_bytes", "runs"}
    assert set(part["cases"]["dynamic"]) == measured and set(part["stages"]["dynamic"]["step"]) == measured
    assert set(part["stages"]["dynamic"]["stages"]["flow"]) == {"seconds", "products", "calls"}
    assert [point["value"] for point in part["sweeps"]["rays"]] == [4, 8] and measured < set(part["sweeps"]["rays"][0])
    assert part["quality"]["points"][1]["ours"] == {"psnr": 22.0, "miou_foreground": 0.9}


def test_tables_show_every_kind_of_figure():
    text = format_record(saved(made_up_part()))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "fast: 1 scene(s) of 3 frames of 24x16, 4 classes" in lines
    assert "static step 8 rays x 4 samples; dynamic step 8 rays x 4 samples" in lines
    assert "dynamic step 2 s 0.5 4 500 ms 1.00 GB 5" in lines
    assert "flow 10 ms 8.3% 0.02 3" in lines and "sum 120 ms 100.0% 0.24" in lines and "step, not watched 2 s 4" in lines
    assert "8 2 s 4 500 ms 1.00 GB" in lines
    assert "2 min 122.0 244 20 static + 40 dynamic 22.00 (19.00) 0.900 (0.700)" in lines
    assert any("frames of 12x10, random networks" in line for line in lines)


@pytest.mark.parametrize("value, text", [
    (0.0123456, "0.0123"), (12.345, "12.3"), (999.4, "999"), (999.7, "1000"), (1903.2, "1903")])
def test_numbers_have_three_digits_and_no_exponent(value, text):
    assert digits(value) == text


def test_sizes_of_random_scenes_are_not_said_of_a_quality_curve():
    part = replace(made_up_part(), cases={}, stages={}, sweeps={})
    assert "scene(s)" not in format_record(saved(part))


def test_records_of_other_kinds_are_refused(tmp_path):
    path = tmp_path / "record.json"
    for content, part in (("{", "no JSON"), ("{}", "not a record of this version"), ("[1]", "not a record")):
        path.write_text(content)
        with pytest.raises(DataError, match=part):
            read_record(path)
    write_json(path, make_record([made_up_part()]))
    assert read_record(path) == saved(made_up_part())


def test_a_comparison_gives_ratios_of_products():
    text = compare(saved(made_up_part(products=8.0)), saved(made_up_part(products=2.0)))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "dynamic step 8 2 0.250" in lines and "dynamic step, rays = 8 8 2 0.250" in lines
    assert "dynamic step: flow 0.02 0.02 1.000" in lines and "warning" not in text


def test_a_comparison_warns_of_other_conditions():
    old, new = saved(made_up_part()), saved(made_up_part())
    old["conditions"]["cpu"] = "another"
    old["parts"][0]["settings"]["config"]["dynamic_stage"]["rays"] = 16
    old["parts"][0]["settings"]["repeats"] = 50
    for case in old["parts"][0]["cases"].values():
        case["product_seconds"] *= 2
    text = compare(old, new)
    assert "warning: cpu differs: another before" in text
    assert "warning: fast: config.dynamic_stage.rays differs: 16 before, 8 after" in text and "repeats" not in text
    assert "a product took 1 s before, 500 ms after" in text
    assert "not in the older record" in compare(old, saved(made_up_part("small")))


def test_ratios_of_nothing_are_dashes():
    old, new = saved(made_up_part()), saved(made_up_part())
    old["parts"][0]["stages"]["dynamic"]["stages"]["flow"]["products"] = 0.0
    lines = [line.split() for line in compare(old, new).splitlines()]
    assert ["dynamic", "step:", "flow", "0", "0.02", "-"] in lines


def test_the_command_reads_and_compares(tmp_path, capsys):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    write_json(old, make_record([made_up_part(products=8.0)]))
    write_json(new, make_record([made_up_part(products=2.0)]))
    assert main(["benchmark", "--read", str(new), "--compare", str(old)]) == 0
    shown = capsys.readouterr().out
    assert "2 min" in shown and "0.250" in shown
    assert main(["benchmark", "--read", str(new), "--json", str(tmp_path / "third.json")]) == 2
    assert "nothing is measured with --read" in capsys.readouterr().err


def test_what_failed_stands_first_in_the_notes():
    (part,) = saved(Part("small", tiny(), None, failures=["dynamic: no memory"]))["parts"]
    assert part["notes"][0] == "not measured: dynamic: no memory" and part["load"] is None
    assert not math.isnan(part["settings"]["height"])
