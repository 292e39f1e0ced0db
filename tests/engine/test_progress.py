"""Progress: running means, ETA, plain lines and the bar."""

import io
import math

import pytest
import torch

import semflow.engine.progress as progress_module
from semflow.engine.progress import Progress, RunningMean


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


class TestRunningMean:
    def test_closed_form(self):
        mean = RunningMean(decay=0.5)
        assert math.isnan(mean.value)
        for value in (4.0, torch.tensor(2.0, requires_grad=True), 1.0):
            mean.add(value)
        assert mean.value == pytest.approx((4 / 4 + 2 / 2 + 1) / (1 / 4 + 1 / 2 + 1), rel=1e-6)

    def test_a_constant_is_its_own_mean_from_the_start(self):
        mean = RunningMean()
        for _ in range(5):
            mean.add(0.3)
            assert mean.value == pytest.approx(0.3, rel=1e-5)

    def test_none_and_nan_change_nothing(self):
        mean = RunningMean()
        mean.add(math.nan)
        assert math.isnan(mean.value)
        for value in (2.0, None, math.nan, torch.tensor(math.nan)):
            mean.add(value)
        assert mean.value == pytest.approx(2.0)


class TestLines:
    def test_a_line_every_twentieth_of_the_stage(self):
        stream = io.StringIO()
        with Progress("dynamic", 200, stream=stream) as progress:
            for _ in range(200):
                progress.update(loss=0.5, psnr=20.0)
        lines = stream.getvalue().splitlines()
        assert len(lines) == 20
        assert lines[0].startswith("dynamic  10/200    5%  loss 0.5000  PSNR 20.00  elapsed 0:00  ETA 0:0")
        assert "mIoU" not in lines[0] and lines[-1].startswith("dynamic  200/200  100%")

    def test_a_line_every_ten_seconds_of_a_long_stage_and_one_at_the_end(self, clock):
        stream = io.StringIO()
        with Progress("static", 100_000, stream=stream) as progress:
            for _ in range(25):
                clock.now += 1
                progress.update(loss=1.0, miou=0.75)
        steps = [line.split()[1] for line in stream.getvalue().splitlines()]
        assert steps == ["10/100000", "20/100000", "25/100000"]
        assert "mIoU 0.750" in stream.getvalue()

    def test_nothing_done_prints_nothing(self):
        stream = io.StringIO()
        with Progress("static", 10, start=10, stream=stream):
            pass
        assert stream.getvalue() == ""


class TestEta:
    def test_from_the_speed_since_the_resume(self, clock):
        progress = Progress("static", 100, start=60, stream=io.StringIO())
        assert math.isnan(progress.eta_seconds())
        with progress:
            for _ in range(10):
                clock.now += 3
                progress.update()
            assert progress.eta_seconds() == pytest.approx(90)

    @pytest.mark.parametrize("seconds, text", [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (7325, "2:02:05")])
    def test_clock(self, seconds, text):
        assert progress_module._clock(seconds) == text


def test_a_terminal_gets_a_bar_with_the_same_figures():
    stream = Terminal()
    with Progress("dynamic", 4, stream=stream) as progress:
        for _ in range(4):
            progress.update(loss=0.25, psnr=torch.tensor(21.0), miou=0.5)
        progress.write("saved")
    text = stream.getvalue()
    for part in ("dynamic 100%|", "4/4", "loss 0.2500", "PSNR 21.00", "mIoU 0.500", "ETA 0:00", "saved\n"):
        assert part in text
