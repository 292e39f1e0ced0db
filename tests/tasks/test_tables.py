"""From metrics.json to the figures and pages of a table."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from semflow.config.schema import Config
from semflow.engine.checkpoint import checkpoint_path, save_checkpoint
from semflow.tasks.reproduce import collecting, running
from semflow.tasks.reproduce.collecting import NEW_VIEWS, OWN_VIEWS, Row, collect
from semflow.tasks.reproduce.plan import BUDGETS, OURS, Job, Method, Table
from semflow.tasks.reproduce.published import PUBLISHED
from semflow.tasks.reproduce.report import markdown, write_tables
from semflow.utils.files import write_json

TABLE = Table("toy", "A toy table", ("tracking_25",))
LABELLED = (0, 1)


def make_job(folder, name, seed=0, scenes=("one",)) -> Job:
    config = replace(Config(), out=str(folder / name / f"seed-{seed}"))
    return Job("tracking_25", Method(name, f"the method {name}"), seed, scenes, config, "", False, None)


def write_evaluation(job, scores, every=6, checkpoint=None) -> None:
    """A finished run whose evaluation gives {scene: {(time, camera): fg mIoU}}."""
    if checkpoint is None:
        job.folder.create(job.config)
        save_checkpoint(checkpoint_path(job.folder.checkpoints, 140_000), {})
        job.folder.mark_finished({})
    scenes = {}
    for scene, images in scores.items():
        listed = [
            {"time": t, "camera": c, "label_group": "held_out" if c != t and t not in LABELLED else None, "color_group": None,
             "ours": {"miou_foreground": value, "psnr": 10 * value}, "copying": {}} for (t, c), value in images.items()]
        group = {"ours": {"classes": {"ball": {"iou": float(np.mean(list(images.values())))}, "wall": {"iou": None}}}}
        scenes[scene] = {"labelled_frames": list(LABELLED), "images": listed, "groups": {"held_out": group}}
    mean = {"held_out": {"ours": {"j_and_f": 0.5}}}
    write_json(running.metrics_file(job, checkpoint), {"subset": {"every": every}, "scenes": scenes, "mean": mean})
    write_json(running.record_file(job), {"seconds": {"train": 90.0}, "commit": "abc"})


def test_images_are_grouped_by_view_and_by_what_was_labelled(tmp_path):
    job = make_job(tmp_path, OURS)
    write_evaluation(job, {"one": {(0, 0): 0.9, (0, 2): 0.8, (2, 2): 0.4, (3, 2): 0.6, (3, 1): 0.2}})
    (row,), curve = collect(TABLE, [job], 6)
    assert row.interval(NEW_VIEWS, "miou_foreground").mean == pytest.approx(0.4)  # (0, 2) shows a labelled time
    assert row.interval(NEW_VIEWS, "psnr").mean == pytest.approx(10 * (0.8 + 0.6 + 0.2) / 3)  # its colours are new
    assert row.interval(OWN_VIEWS, "miou_foreground").mean == pytest.approx(0.4)
    distances = {d: i and i.mean for d, i in row.by_distance().items()}
    assert distances == {0: None, 1: pytest.approx(0.4), 2: pytest.approx(0.4)}
    assert row.minutes == 1.5 and curve == []


def test_scenes_weigh_alike_however_many_images_they_have(tmp_path):
    job = make_job(tmp_path, OURS, scenes=("one", "two"))
    write_evaluation(job, {"one": {(2, 0): 1.0}, "two": {(2, c): 0.0 for c in (0, 1, 3)}})
    (row,), _ = collect(TABLE, [job], 6)
    assert row.interval(NEW_VIEWS, "miou_foreground").mean == 0.5


def test_several_seeds_give_an_interval_over_seeds(tmp_path):
    jobs = [make_job(tmp_path, OURS, seed) for seed in range(3)]
    for job, value in zip(jobs, (0.7, 0.8, 0.9)):
        write_evaluation(job, {"one": {(2, 0): value - 0.1, (3, 0): value + 0.1}})
    (row,), _ = collect(TABLE, jobs, 6)
    found = row.interval(NEW_VIEWS, "miou_foreground")
    margin = 4.302653 * 0.1 / np.sqrt(3)  # Student's t with two degrees of freedom
    assert (found.mean, found.low, found.high, found.count) == (
        pytest.approx(0.8), pytest.approx(0.8 - margin, abs=1e-6), pytest.approx(0.8 + margin, abs=1e-6), 3)


def test_differences_to_ours_are_taken_image_by_image(tmp_path):
    ours, other = make_job(tmp_path, OURS), make_job(tmp_path, "mean")
    write_evaluation(ours, {"one": {(2, 0): 0.1, (3, 0): 0.9, (3, 3): 0.5}})
    write_evaluation(other, {"one": {(2, 0): 0.2, (3, 0): 1.0, (4, 0): 0.0, (3, 3): 0.4}})  # ours lacks (4, 0)
    _, row = collect(TABLE, [ours, other], 6)[0]
    assert row.differences[NEW_VIEWS].mean == pytest.approx(0.1)
    assert row.differences[NEW_VIEWS].low == pytest.approx(0.1) == row.differences[NEW_VIEWS].high  # the same on every image
    assert row.differences[OWN_VIEWS].mean == pytest.approx(-0.1)


def test_what_is_missing_is_counted_not_invented(tmp_path):
    done, missing = make_job(tmp_path, OURS, 0), make_job(tmp_path, OURS, 1)
    write_evaluation(done, {"one": {(2, 0): 0.5}})
    (row,), _ = collect(TABLE, [done, missing], 6)
    assert (len(row.runs), row.of) == (1, 2)
    (row,), _ = collect(TABLE, [missing], 6)
    assert row.runs == [] and row.interval(NEW_VIEWS, "psnr") is None and row.minutes is None


def test_a_curve_holds_the_checkpoints_on_the_way_and_the_end(tmp_path):
    job = replace(make_job(tmp_path, OURS), curve=True)
    write_evaluation(job, {"one": {(2, 0): 0.9}})
    path = checkpoint_path(job.folder.checkpoints, 100_000)
    save_checkpoint(path, {})
    write_evaluation(job, {"one": {(2, 0): 0.6}}, checkpoint=path)
    _, curve = collect(TABLE, [job], 6)
    assert [(p.steps, p.miou_foreground, p.psnr) for p in curve] == [(100_000, 0.6, 6.0), (140_000, 0.9, 9.0)]


@pytest.fixture
def written(tmp_path):
    ours, other = make_job(tmp_path, OURS), make_job(tmp_path, "mean")
    write_evaluation(ours, {"one": {(2, 0): 0.75, (3, 3): 0.5}})
    write_evaluation(other, {"one": {(2, 0): 0.5, (3, 3): 0.25}})
    path = tmp_path / "results" / "toy"
    write_tables(path, TABLE, BUDGETS["small"], *collect(TABLE, [ours, other, make_job(tmp_path, "later")], 6),
                 [path.parent / "toy_views.png"])
    return path


def test_the_page_shows_figures_rows_without_runs_and_pictures(written):
    page = written.with_suffix(".md").read_text()
    assert "2 of 3 runs, commit abc." in page
    assert "| tracking_25 | mean | 0.500 | -0.250 | 5.00 | 0.250 | -0.250 | 0.500 | 1.5 |  |" in page
    assert "| tracking_25 | later |  |  |  |  |  |  |  |  |" in page  # asked for, not there yet
    assert "- mean: the method mean." in page and "![toy_views](toy_views.png)" in page
    assert "| ours | 0.625 |" in page.replace("tracking_25 | ", "")  # the only class that is known
    assert "wall" not in page


def test_the_page_says_whether_published_figures_are_known(written, monkeypatch):
    assert "- published: the figure of the paper; none is known here." in written.with_suffix(".md").read_text()
    monkeypatch.setitem(PUBLISHED, ("tracking_25", "mean"), "0.812")
    rows = [Row("tracking_25", "mean", "the method mean", [], 1, {})]
    page = markdown(TABLE, BUDGETS["small"], rows, [], [])
    assert "| tracking_25 | mean |  |  | 0.812 |" in page and "- published: the figure of the paper, where it is known." in page


def test_csv_and_json_hold_every_run(written):
    rows = list(csv.DictReader(written.with_suffix(".csv").open()))
    assert {(row["method"], row["metric"], float(row["value"])) for row in rows if row["group"] == OWN_VIEWS} == {
        (OURS, "miou_foreground", 0.5), (OURS, "psnr", 5.0), ("mean", "miou_foreground", 0.25), ("mean", "psnr", 2.5)}
    record = json.loads(written.with_suffix(".json").read_text())
    run = record["rows"][1]["runs"][0]
    assert run["commit"] == "abc" and run["config"]["out"].endswith("seed-0") and run["seconds"] == {"train": 90.0}
    assert record["protocol"]["name"] == running.PROTOCOL and record["groups"] == collecting.GROUPS


def test_scenes_with_a_dot_in_their_name_have_files_of_their_own(tmp_path):
    for name in ("toy-walk.1", "toy-walk.2"):
        write_tables(tmp_path / name, TABLE, BUDGETS["small"], [], [])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"toy-walk.{n}.{ending}" for n in (1, 2) for ending in ("csv", "json", "md")]
