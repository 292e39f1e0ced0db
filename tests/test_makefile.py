"""`make demo` with a stand-in for the installed command: its steps, their order, repetition and failure."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STAND_IN = """#!/bin/sh
echo "$1" >> calls
[ "$1" != "$FAIL" ] || exit 7
case "$1" in
  make-scene) mkdir -p data/balloon ;;
  train) mkdir -p runs/balloon; [ -f runs/balloon/finished.json ] || echo {} > runs/balloon/finished.json ;;
  evaluate) mkdir -p runs/balloon/eval/corrected; cd runs/balloon/eval/corrected; sleep 0.02
            echo {} > metrics.json; echo THE TABLE > table.txt ;;
  render) mkdir -p "runs/balloon/renders/balloon_$5"; sleep 0.02
          echo > "runs/balloon/renders/balloon_$5/side_by_side.mp4" ;;
esac
"""


@pytest.fixture
def demo(tmp_path):
    """Run `make demo` in an empty checkout whose environment is ready; returns the process and the calls made."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    for name in ("Makefile", "setup.py"):
        shutil.copy(ROOT / name, tmp_path)
    command = tmp_path / ".venv" / "bin" / "semflow"
    command.parent.mkdir(parents=True)
    command.write_text(STAND_IN)
    command.chmod(0o755)
    (tmp_path / ".venv" / ".installed").touch()

    def run(fail=""):
        (tmp_path / "calls").write_text("")
        process = subprocess.run(["make", "demo"], cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "FAIL": fail},
                                 capture_output=True, text=True, check=False)
        return process, (tmp_path / "calls").read_text().split()

    return run


def test_every_step_once_and_in_order(demo):
    process, calls = demo()
    assert process.returncode == 0, process.stderr
    assert calls == ["make-scene", "train", "evaluate", "render", "render"]
    for part in ("THE TABLE", "overview.png", "side_by_side.mp4", "s in total"):
        assert part in process.stdout


def test_repeated_it_only_asks_the_trainer(demo):
    demo()
    process, calls = demo()
    assert process.returncode == 0 and calls == ["train"] and "THE TABLE" in process.stdout


def test_a_failing_step_stops_it_and_a_second_call_goes_on(demo):
    process, calls = demo(fail="evaluate")
    assert process.returncode != 0 and "THE TABLE" not in process.stdout
    assert calls == ["make-scene", "train", "evaluate"]
    assert demo()[1] == ["train", "evaluate", "render", "render"]
