"""Makes `toys`, the constructed scenes and stand-ins shared by the tests, importable from every folder below."""

import sys
from pathlib import Path

FOLDER = str(Path(__file__).resolve().parent)
if FOLDER not in sys.path:
    sys.path.insert(0, FOLDER)
