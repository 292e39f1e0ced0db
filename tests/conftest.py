"""Settings of torch for all tests."""

from semflow.utils.device import set_up_torch

# Small tensors: one thread is faster than handing work around, and the tests compute the same on any machine.
set_up_torch(threads=1)
