"""Doing jobs: order, failures, times, what is done already."""

import multiprocessing
import os
import signal
import sys
import time
from dataclasses import replace

import pytest

from semflow.config.parser import config_to_text
from semflow.config.schema import Config
from semflow.engine.checkpoint import checkpoint_path, save_checkpoint
from semflow.tasks.reproduce import running
from semflow.tasks.reproduce.plan import Job, Method
from semflow.utils.errors import ConfigError
from semflow.utils.files import write_json, write_text


def make_job(folder, name, needs=None, baseline="", curve=False) -> Job:
    config = replace(Config(), out=str(folder / name))
    return Job("task", Method(name, "a method", None, baseline), 0, ("scene",), config, baseline, curve,
               None if needs is None else needs.folder.path)


def train(job, step=140_000, finished=True) -> None:
    job.folder.create(job.config)
    save_checkpoint(checkpoint_path(job.folder.checkpoints, step), {})
    if finished:
        job.folder.mark_finished({})


def judge(job, every=6, checkpoint=None) -> None:
    write_json(running.metrics_file(job, checkpoint), {"subset": {"every": every}})


def test_a_run_is_trained_then_judged_then_done(tmp_path):
    job = make_job(tmp_path, "a")
    assert running.next_command(job, 6, "cpu")[0] == "train"
    train(job)
    phase, command = running.next_command(job, 6, "cuda:1")
    assert phase == "evaluate" and command[-1] == job.config.out and "cuda:1" in command
    judge(job)
    assert running.next_command(job, 6, "cpu") is None and running.is_done(job, 6)
    assert not running.is_done(job, 3)  # another subset of the views


def test_another_configuration_in_the_folder_is_refused(tmp_path):
    job = make_job(tmp_path, "a")
    train(job)
    with pytest.raises(ConfigError, match="another configuration: train.seed"):
        running.is_trained(replace(job, config=replace(job.config, train=replace(job.config.train, seed=1))))


def test_what_is_advised_for_another_configuration_exists(tmp_path):
    job = make_job(tmp_path, "a")
    train(job)
    other = replace(job, config=replace(job.config, train=replace(job.config.train, seed=1)))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes").touch()  # no run at all
    for wrong in (other, make_job(tmp_path, "b")):
        with pytest.raises(ConfigError, match="another folder of runs by --runs") as caught:
            running.is_done(wrong, 6)  # asked before running, and by --collect
        assert "--o" not in str(caught.value)  # neither --out nor --overwrite


def test_a_method_without_training_is_judged_again_when_its_configuration_changes(tmp_path):
    job = make_job(tmp_path, "flow", baseline="flow")
    command = running.next_command(job, 6, "cpu")[1]
    assert command[-6:-2] == ["--baseline", "flow", "--config", str(running.plan_file(job))]
    assert command[-2:] == ["--into", str(running.metrics_file(job).parents[1])]  # where it is looked for afterwards
    write_text(running.plan_file(job), config_to_text(job.config))
    judge(job)
    assert running.is_done(job, 6)
    assert not running.is_done(replace(job, config=replace(job.config, device="cuda")), 6)


def test_a_curve_judges_the_checkpoints_of_the_dynamic_stage(tmp_path):
    job = make_job(tmp_path, "a", curve=True)  # 60,000 static and 80,000 dynamic steps
    train(job)
    for step in (50_000, 60_000, 70_000, 100_000):
        save_checkpoint(checkpoint_path(job.folder.checkpoints, step), {})
    judge(job)
    assert [path.stem[-6:] for path in running.curve_checkpoints(job)] == ["070000", "100000"]
    command = running.next_command(job, 6, "cpu")[1]
    assert str(checkpoint_path(job.folder.checkpoints, 70_000)) in command and "--into" in command
    for path in running.curve_checkpoints(job):
        judge(job, checkpoint=path)
    assert running.is_done(job, 6)


@pytest.fixture
def scripts(monkeypatch, tmp_path):
    """Jobs are done by small programs: name -> text of the program; a job is done when its folder exists."""
    programs = {}
    monkeypatch.setattr(running, "is_done", lambda job, every: job.folder.path.exists())
    monkeypatch.setattr(running, "is_trained", lambda job: job.folder.path.exists())
    monkeypatch.setattr(running, "POLL_SECONDS", 0.01)

    def command(job, every, device):
        default = f"import pathlib; pathlib.Path({str(job.folder.path)!r}).mkdir(); print({device!r})"
        return "train", [sys.executable, "-c", programs.get(job.method.name, default)]

    monkeypatch.setattr(running, "next_command", command)
    return programs


def test_jobs_run_after_those_that_they_need(tmp_path, scripts):
    first = make_job(tmp_path, "first")
    second, third = make_job(tmp_path, "second", needs=first), make_job(tmp_path, "third")
    scripts["second"] = f"import pathlib; assert pathlib.Path({str(first.folder.path)!r}).exists(); " \
                        f"pathlib.Path({str(second.folder.path)!r}).mkdir()"
    said = []
    assert running.run_jobs([first, second, third], 6, ["cpu", "cpu"], said.append) == []
    assert said[0] == "3 runs, 3 of them to do, 2 at a time" and "[3/3]" in said[-1]
    record = running.read_record(third)
    assert record["device"] == "cpu" and record["seconds"]["train"] > 0
    assert running.run_jobs([first, second, third], 6, ["cpu"], said.append) == [] and said[-1].startswith("3 runs, 0 of")


def test_what_another_call_has_done_meanwhile_is_not_done_again(tmp_path, scripts):
    first, second, third = (make_job(tmp_path, name) for name in ("first", "second", "third"))
    folders = str(first.folder.path), str(second.folder.path)
    scripts["first"] = f"import pathlib; [pathlib.Path(path).mkdir() for path in {folders!r}]"
    scripts["second"] = "raise SystemExit('done twice')"
    said = []
    assert running.run_jobs([first, second, third], 6, ["cpu"], said.append) == [] and "[3/3] task · third" in said[-1]
    assert not running.plan_file(second).exists()  # it is as the other call has written it


def test_a_failure_is_told_and_takes_along_what_needs_it_alone(tmp_path, scripts):
    first, other = make_job(tmp_path, "first"), make_job(tmp_path, "other")
    second = make_job(tmp_path, "second", needs=first)
    scripts["first"] = "import sys; print('semflow: error: the disk is full'); sys.exit(2)"
    failures = running.run_jobs([first, second, other], 6, ["cpu"], lambda line: None)
    assert len(failures) == 2 and "the disk is full" in failures[0] and "left out" in failures[1]
    assert other.folder.path.exists() and not second.folder.path.exists()


def test_training_that_ends_early_is_a_failure(tmp_path, scripts):
    job = make_job(tmp_path, "stopped")
    scripts["stopped"] = "print('stopped by SIGTERM after step 3')"
    assert "stopped by SIGTERM" in running.run_jobs([job], 6, ["cpu"], lambda line: None)[0]


def test_an_interruption_stops_the_processes_gently(tmp_path, scripts, monkeypatch):
    job = make_job(tmp_path, "long")
    ready, saved = tmp_path / "ready", tmp_path / "saved"
    scripts["long"] = (
        "import pathlib, signal, sys, time\n"
        f"def save(*_):\n    pathlib.Path({str(saved)!r}).touch()\n    sys.exit(0)\n"
        f"signal.signal(signal.SIGTERM, save)\npathlib.Path({str(ready)!r}).touch()\ntime.sleep(60)")

    def interrupt(seconds):
        if ready.exists():
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(running.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        running.run_jobs([job], 6, ["cpu"], lambda line: None)
    assert saved.exists()


SLOW_TO_SAVE = """
import os, pathlib, time
from semflow.engine.interrupt import GracefulStop
with GracefulStop() as stop:
    print(os.getpid(), flush=True)
    pathlib.Path({ready!r}).touch()
    while not stop.requested:
        time.sleep(0.01)
    time.sleep({seconds})  # a second signal would come now
pathlib.Path({saved!r}).touch()
"""


@pytest.fixture
def apart(tmp_path, scripts):
    """Runs a job that needs `seconds` to save, in a process that leads a group, as a command in a terminal does; (it, saved)."""
    started = []

    def lead(job):
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may run under nohup, or behind an &
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        running.run_jobs([job], 6, ["cpu"], lambda line: None)

    def start(seconds):
        ready, saved, job = tmp_path / "ready", tmp_path / "saved", make_job(tmp_path, "long")
        scripts["long"] = SLOW_TO_SAVE.format(ready=str(ready), saved=str(saved), seconds=seconds)
        process = multiprocessing.get_context("fork").Process(target=lead, args=(job,))
        process.start()
        started.append(process)
        wait_for(ready.exists)
        return process, saved

    yield start
    for process in started:
        process.kill()


def wait_for(condition, seconds=60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_terminal_s_whole_group_reaches_a_training_once(apart, number):
    process, saved = apart(seconds=1)
    os.killpg(process.pid, number)
    process.join(60)
    assert process.exitcode == 1 and saved.exists()


def test_a_second_ctrl_c_leaves_no_process_behind(apart, tmp_path):
    process, saved = apart(seconds=60)
    log = running.log_file(make_job(tmp_path, "long"))
    child = int(log.read_text())
    os.killpg(process.pid, signal.SIGINT)
    wait_for(lambda: "SIGTERM" in log.read_text())  # it saves
    os.killpg(process.pid, signal.SIGINT)
    process.join(60)
    assert not saved.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_under_nohup_a_closed_terminal_changes_nothing(monkeypatch):
    monkeypatch.setattr(running.signal, "getsignal", lambda number: signal.SIG_DFL)
    assert signal.SIGHUP in running.stopping().signals
    monkeypatch.setattr(running.signal, "getsignal", lambda number: signal.SIG_IGN)
    assert signal.SIGHUP not in running.stopping().signals


def test_processes_on_the_cpu_share_its_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: range(8), raising=False)
    assert running.threads_each(["cpu"] * 3) == 2 and running.threads_each(["cpu"] * 9) == 1
    assert running.threads_each(["cpu"]) == 0 and running.threads_each(["cuda:0", "cuda:1"]) == 0
