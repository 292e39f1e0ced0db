"""Errors that a user can act on: one line that names the file or key and the remedy.

The command line prints them without a traceback and exits with status 2.
"""


class SemflowError(Exception):
    """Base of every error whose cause lies in the input, not in the program."""


class ConfigError(SemflowError):
    """A configuration key or value is wrong; the message names the key and what is allowed."""


class DataError(SemflowError):
    """A file of a scene is missing or broken; the message names the file and what to do."""


class CheckpointError(SemflowError):
    """A checkpoint or run folder cannot be used; the message names it and what to do."""


class RankError(SemflowError):
    """Another process of the run has ended or cannot be reached."""


class OtherRankFailed(SemflowError):
    """This process ends because another one failed first and has said why: it says nothing itself."""
