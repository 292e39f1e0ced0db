"""Stopping a run cleanly: Ctrl-C and SIGTERM become a flag that the training loop reads once per step."""

from __future__ import annotations

import os
import signal
import threading


class GracefulStop:
    """Context manager: the first SIGINT or SIGTERM sets `requested`, a second one raises KeyboardInterrupt.

    The previous handlers come back when the block ends. Outside the main thread, where Python allows no
    handlers, it does nothing.

    Attributes:
        requested: a signal has come; save and leave.
        signal_name: `SIGINT` or `SIGTERM`, or an empty text.
    """

    signals = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.requested = False
        self.signal_name = ""
        self._previous: dict[int, object] = {}

    def __enter__(self) -> GracefulStop:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in self.signals}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            # a handler that was not installed from Python is reported as None and cannot be put back
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous = {}

    def _handle(self, number: int, frame) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self.signal_name = signal.Signals(number).name
        # os.write because print is not safe inside a handler that may have interrupted a print
        os.write(2, f"\n{self.signal_name}: saving after this step; press Ctrl-C again to stop at once\n".encode())
