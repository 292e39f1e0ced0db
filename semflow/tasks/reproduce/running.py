"""Doing jobs: training and judging in processes of their own, on several devices, what is not done yet."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from semflow.config.parser import config_to_text
from semflow.engine.benchmark_quality import read_evaluation
from semflow.engine.benchmark_report import commit
from semflow.engine.checkpoint import all_checkpoints
from semflow.engine.interrupt import GracefulStop
from semflow.engine.run_folder import RunState
from semflow.engine.stages import total_steps
from semflow.tasks.reproduce.plan import Job
from semflow.utils.device import usable_cores
from semflow.utils.errors import SemflowError
from semflow.utils.files import write_json, write_text

PROTOCOL = "corrected"
OTHER_RUNS = "name another folder of runs by --runs, or give the --set that this one was made with"
POLL_SECONDS = 0.2


def plan_file(job: Job) -> Path:
    """The job's configuration, beside its folder, in which nothing may lie before training makes it."""
    return job.folder.path.with_suffix(".txt")


def record_file(job: Job) -> Path:
    """Times, commit and device of the job."""
    return job.folder.path.with_suffix(".json")


def log_file(job: Job) -> Path:
    """What its processes print."""
    return job.folder.path.with_suffix(".log")


def metrics_file(job: Job, checkpoint: Path | None = None) -> Path:
    """The evaluation of the job, or that of a checkpoint on the way."""
    return evaluation_folder(job, checkpoint) / PROTOCOL / "metrics.json"


def evaluation_folder(job: Job, checkpoint: Path | None = None) -> Path:
    """Where it lies."""
    return job.folder.eval if checkpoint is None else job.folder.eval / checkpoint.stem


def is_trained(job: Job) -> bool:
    """Whether the run has ended, or there is nothing to train.

    Raises:
        ConfigError: its folder holds a run of another configuration.
    """
    return bool(job.baseline) or job.folder.state(job.config, OTHER_RUNS) is RunState.FINISHED


def is_judged(job: Job, every: int, checkpoint: Path | None = None) -> bool:
    """Whether there is an evaluation of the job as it is now, on this subset."""
    if job.baseline:
        same = plan_file(job).exists() and plan_file(job).read_text(encoding="utf-8") == config_to_text(job.config)
        return same and read_evaluation(metrics_file(job), plan_file(job), every) is not None
    found = checkpoint or job.folder.newest_checkpoint
    return found is not None and read_evaluation(metrics_file(job, checkpoint), found, every) is not None


def curve_checkpoints(job: Job) -> list[Path]:
    """Checkpoints on the way that hold a dynamic field in training, the last one left out."""
    last = total_steps(job.config)
    first = last - job.config.dynamic_stage.steps
    return [path for step, path in all_checkpoints(job.folder.checkpoints) if job.curve and first < step < last]


def is_done(job: Job, every: int) -> bool:
    """Whether nothing is left to do."""
    return is_trained(job) and is_judged(job, every) and all(is_judged(job, every, path) for path in curve_checkpoints(job))


def next_command(job: Job, every: int, device: str) -> tuple[str, list[str]] | None:
    """What is to be done next for a job: `train` or `evaluate`, and the command; None: nothing."""
    front = [sys.executable, "-m", "semflow.cli.main"]
    judge = [*front, "evaluate", "--protocol", PROTOCOL, "--every", str(every), "--device", device]
    if not is_trained(job):
        return "train", [*front, "train", "--config", str(plan_file(job)), "--device", device]
    if not is_judged(job, every):
        of_baseline = ["--baseline", job.baseline, "--config", str(plan_file(job)), "--into", str(evaluation_folder(job))]
        return "evaluate", [*judge, *(of_baseline if job.baseline else ["--run", job.config.out])]
    for path in curve_checkpoints(job):
        if not is_judged(job, every, path):
            out = evaluation_folder(job, path)
            return "evaluate", [*judge, "--run", job.config.out, "--checkpoint", str(path), "--into", str(out)]
    return None


@dataclass
class Worker:
    """A device and the process that runs on it."""

    device: str
    threads: int
    job: Job | None = None
    process: subprocess.Popen | None = None
    phase: str = ""
    command: list[str] = field(default_factory=list)
    started: float = 0.0

    def start(self, job: Job, phase: str, command: list[str]) -> None:
        """Start a process, its output goes to the end of the job's log."""
        environment = dict(os.environ)
        if self.threads:
            environment["OMP_NUM_THREADS"] = str(self.threads)
        self.job, self.phase, self.command, self.started = job, phase, command, time.monotonic()
        with open(log_file(job), "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment,
                                            start_new_session=True)  # Ctrl-C in the terminal reaches it by `stop_all` alone

    def finish(self) -> None:
        """Add the time of the ended process to the job's record.

        Raises:
            SemflowError: it failed, or training was stopped.
        """
        note_time(self.job, self.phase, time.monotonic() - self.started, self.device)
        status, self.process = self.process.returncode, None
        if status or (self.phase == "train" and not is_trained(self.job)):
            lines = log_file(self.job).read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise SemflowError(f"{self.job.name}: {lines[-1] if lines else 'failed'} (see {log_file(self.job)})")


def stop_all(workers: Sequence[Worker]) -> None:
    """Ask the processes once to stop - training saves first - and wait; another Ctrl-C meanwhile kills them."""
    running = [worker for worker in workers if worker.process is not None]
    try:
        for worker in running:
            worker.process.terminate()
        for worker in running:
            worker.process.wait()
    except KeyboardInterrupt:
        for worker in running:
            worker.process.kill()
            worker.process.wait()
        raise
    for worker in running:
        note_time(worker.job, worker.phase, time.monotonic() - worker.started, worker.device)


def stopping() -> GracefulStop:
    """Told to stop also by a terminal that closes, of which processes in other sessions hear nothing; not under nohup."""
    stop = GracefulStop()
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        stop.signals = (*stop.signals, signal.SIGHUP)
    return stop


def note_time(job: Job, phase: str, seconds: float, device: str) -> None:
    """Add to the seconds of a phase."""
    record = read_record(job)
    times = record.get("seconds", {})
    times[phase] = times.get(phase, 0.0) + seconds
    write_json(record_file(job), record | {"seconds": times, "commit": commit(), "device": device})


def read_record(job: Job) -> dict:
    """Times, commit and device of a job, as far as they are known."""
    path = record_file(job)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def run_jobs(jobs: Sequence[Job], every: int, devices: Sequence[str], say: Callable[[str], None] = print) -> list[str]:
    """Do what is left of the jobs, each after the one that it needs.

    Args:
        jobs: in order; a job stands after the one that it needs. every: one in N new views is judged.
        devices: one job at a time on each; a name may come several times. say: is told about progress.

    Returns:
        A line per job that failed; the jobs that need one of those are left out, the others done.

    Raises:
        ConfigError: a folder holds a run of another configuration.
        KeyboardInterrupt: everything was stopped; trainings are saved, unless a second Ctrl-C came meanwhile, and go on
            by the same call.
    """
    left = [job for job in jobs if not is_done(job, every)]
    say(f"{len(jobs)} runs, {len(left)} of them to do, {len(devices)} at a time")
    workers = [Worker(device, threads_each(devices)) for device in devices]
    queue = Queue(left, every, say)
    try:
        with stopping() as stop:
            while queue.step(workers):
                time.sleep(POLL_SECONDS)
                if stop.requested:
                    raise KeyboardInterrupt
    except BaseException:
        stop_all(workers)
        raise
    return queue.failures


def threads_each(devices: Sequence[str]) -> int:
    """Threads of a process, so that those on the CPU share its cores; 0: as torch likes."""
    on_cpu = sum(device == "cpu" for device in devices)
    return max(1, usable_cores() // on_cpu) if on_cpu > 1 else 0


class Queue:
    """What is waiting, what failed, and how long it takes."""

    def __init__(self, left: list[Job], every: int, say: Callable[[str], None]):
        self.waiting, self.every, self.say = list(left), every, say
        self.failures: list[str] = []
        self.missing: set[Path] = set()  # folders of jobs that failed or wait
        self.total, self.done, self.began = len(left), 0, time.monotonic()

    def step(self, workers: Sequence[Worker]) -> bool:
        """Look after the workers once; whether there is anything left to do."""
        for worker in workers:
            if worker.process is not None and worker.process.poll() is not None:
                self.ended(worker)
            if worker.process is None:
                self.next(worker, {w.job.folder.path for w in workers if w.process is not None})
        return any(worker.process is not None for worker in workers)

    def next(self, worker: Worker, running: set[Path]) -> None:
        """Give a free worker the next step of its job, or a new job."""
        unfinished = running | {job.folder.path for job in self.waiting}
        ready = [worker.job] if worker.job is not None else [job for job in self.waiting if job.needs not in unfinished]
        for job in ready:
            if job.needs in self.missing:
                self.drop(job, f"{job.name}: left out, the run that it starts from failed")
                continue
            if worker.job is None:
                self.waiting.remove(job)
                if is_done(job, self.every):  # by another call, meanwhile
                    self.done += 1
                    continue
                write_text(plan_file(job), config_to_text(job.config))
            phase, command = next_command(job, self.every, worker.device)
            worker.start(job, phase, command)
            return

    def ended(self, worker: Worker) -> None:
        """A process has ended: the job is done, failed, or has a next step."""
        job = worker.job
        try:
            worker.finish()
        except SemflowError as error:
            worker.job = None
            self.drop(job, str(error))
            return
        if not is_done(job, self.every):
            return
        worker.job, self.done = None, self.done + 1
        per_job = (time.monotonic() - self.began) / self.done
        times = ", ".join(f"{phase} {seconds / 60:.1f} min" for phase, seconds in read_record(job)["seconds"].items())
        rest = per_job * (self.total - self.done - len(self.failures)) / 60
        self.say(f"[{self.done}/{self.total}] {job.name}: {times}; {rest:.0f} min left")

    def drop(self, job: Job, reason: str) -> None:
        """Note a failure."""
        if job in self.waiting:
            self.waiting.remove(job)
        self.missing.add(job.folder.path)
        self.failures.append(reason)
        self.say(f"FAILED {reason}")
