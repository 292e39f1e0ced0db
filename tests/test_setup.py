"""What the package says of itself."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_systems_are_those_that_the_program_can_ask_for_memory_and_signals():
    systems = re.findall(r'"Operating System :: (.+)"', (ROOT / "setup.py").read_text(encoding="utf-8"))
    assert systems == ["POSIX :: Linux", "MacOS"]  # os.sysconf, resource and SIGHUP are missing on Windows
    assert "with Linux or macOS" in (ROOT / "README.md").read_text(encoding="utf-8")
