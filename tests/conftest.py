"""Settings of torch for all tests; `toys` and `tiny_scene`, shared by several folders, become importable."""

import sys
from pathlib import Path

from semflow.utils.device import set_up_torch

FOLDER = str(Path(__file__).resolve().parent)
if FOLDER not in sys.path:
    sys.path.insert(0, FOLDER)

# Small tensors: one thread is faster than handing work around, and the tests compute the same on any machine.
set_up_torch(threads=1)
