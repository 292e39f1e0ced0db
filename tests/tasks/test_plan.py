"""Which runs a table needs."""

from pathlib import Path

import pytest

from semflow.config.parser import config_differences
from semflow.engine.checkpoint import checkpoint_path
from semflow.tasks.reproduce.plan import BUDGETS, CONFIGS, OURS, TABLES, Sources, find_table, jobs_of, methods_of, unique
from semflow.utils.errors import ConfigError

SMALL = BUDGETS["small"]


@pytest.fixture
def sources(tmp_path):
    return Sources(tmp_path / "runs", str(tmp_path / "data"))


def job(jobs, task, method=OURS):
    return next(job for job in jobs if (job.task, job.method.name) == (task, method))


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=lambda budget: budget.name)
def test_tables_that_share_a_run_agree_on_it(budget, sources):
    jobs = [job for table in TABLES.values() for job in jobs_of(table, budget, sources)]
    folders = {}
    for found in jobs:
        assert folders.setdefault(found.folder.path, found).config == found.config
    assert len(unique(jobs)) == len(folders) < len(jobs)


def test_a_run_is_the_task_with_the_lines_of_the_method(sources):
    jobs = jobs_of(TABLES["tracking"], SMALL, sources)
    ours, mean = job(jobs, "tracking_25"), job(jobs, "tracking_25", "mean_features")
    assert ours.config.data.labelled_frames == "0-2" and ours.config.data.scenes == ("balloon",)
    assert set(config_differences(ours.config, mean.config)) == {"out", "model.aggregator"}
    assert mean.config.model.aggregator == "mean" and mean.config.data.dir == sources.data_dir
    assert not job(jobs, "tracking_25", "flow").method.overlay and job(jobs, "tracking_25", "flow").baseline == "flow"


def test_the_budget_shortens_the_stages_alike(sources):
    config = job(jobs_of(TABLES["full"], SMALL, sources), "full").config
    assert (config.static_stage.steps, config.dynamic_stage.steps) == (round(0.25 * 900), round(0.25 * 700))
    assert config.flow_stage.steps == config.flow_stage.decay_steps == 250
    assert config.static_stage.decay_steps == config.static_stage.steps
    time_alone = job(jobs_of(TABLES["full"], SMALL, sources), "full", "nerf_time").config
    assert time_alone.static_stage.steps == 0  # a stage without steps stays without
    assert time_alone.dynamic_stage.steps == round(0.25 * 1600)


def test_settings_are_taken_as_they_are_and_scenes_replace_those_of_the_budget(tmp_path):
    sources = Sources(tmp_path, None, ("Parade", "Banner"), ("dynamic_stage.steps=7", "data.factor=4"))
    jobs = jobs_of(TABLES["full"], SMALL, sources)
    assert {job.scenes for job in jobs} == {("Parade",), ("Banner",)}
    assert {(job.config.dynamic_stage.steps, job.config.data.factor) for job in jobs} == {(7, 4)}
    assert {job.scenes for job in jobs_of(TABLES["multi"], SMALL, sources)} == {("Parade", "Banner")}


def test_adaptation_starts_from_the_last_checkpoint_of_the_model_of_several_scenes(sources):
    multi, adapted, scratch = jobs_of(TABLES["adaptation"], SMALL, sources)
    steps = sum(getattr(multi.config, f"{stage}_stage").steps for stage in ("static", "flow", "dynamic"))
    assert multi.scenes == SMALL.several and not multi.curve
    assert adapted.config.init == str(checkpoint_path(multi.folder.checkpoints, steps)) and adapted.needs == multi.folder.path
    assert not scratch.config.init and scratch.needs is None and scratch.curve and adapted.curve
    assert adapted.scenes == scratch.scenes == SMALL.new and not set(SMALL.new) & set(SMALL.several)
    assert adapted.config.dynamic_stage.steps == scratch.config.dynamic_stage.steps == 150  # not shortened
    assert set(config_differences(adapted.config, scratch.config)) == {"out", "init"}


def test_adaptation_to_a_named_scene_needs_another_to_start_from(tmp_path):
    named = jobs_of(TABLES["adaptation"], SMALL, Sources(tmp_path, None, ("Parade", "Banner")))
    assert [job.scenes for job in named] == [("Parade",), ("Banner",), ("Banner",)]
    with pytest.raises(ConfigError, match="at least two scenes"):
        jobs_of(TABLES["adaptation"], SMALL, Sources(tmp_path, None, ("Parade",)))


def test_seeds_repeat_what_is_trained_and_nothing_else(sources):
    jobs = jobs_of(TABLES["full"], BUDGETS["medium"], sources)
    assert {job.config.train.seed for job in jobs if job.method.name == OURS} == {0, 1, 2}
    assert {job.seed for job in jobs if job.baseline} == {0}


def test_a_file_in_the_folder_is_a_row(tmp_path):
    for folder in ("ablations", "baselines"):
        (tmp_path / folder).mkdir()
    (tmp_path / "ablations" / "wide_flow.txt").write_text("# A wider flow network. It costs more.\nbase = x.txt\nmodel.flow_width = 96\n")
    methods = methods_of(TABLES["ablations"], tmp_path)
    assert [(method.name, method.meaning) for method in methods[1:]] == [("wide_flow", "A wider flow network")]


def test_every_method_says_what_it_is():
    for table in TABLES.values():
        methods = methods_of(table)
        assert methods[0].name == OURS and len({method.name for method in methods}) == len(methods)
        assert all(method.meaning for method in methods)
        assert all((CONFIGS / "tasks" / f"{task}.txt").is_file() for task in table.tasks)


def test_unknown_table():
    with pytest.raises(ConfigError, match="table 'tracks': choose one of full, tracking"):
        find_table("tracks")


def test_paths_are_below_the_runs_folder(sources):
    found = jobs_of(TABLES["multi"], SMALL, sources)[0]
    assert found.folder.path == Path(sources.runs) / "small" / "balloon+flag" / "multi" / "ours" / "seed-0"


def test_a_seed_may_be_set_for_all_runs():
    jobs = jobs_of(TABLES["weak"], SMALL, Sources(Path("runs"), settings=("train.seed=7",)))
    assert {job.config.train.seed for job in jobs} == {7}
