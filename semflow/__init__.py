"""semflow: semantic fields of dynamic scenes from one moving camera's video."""

__version__ = "0.1.0"
