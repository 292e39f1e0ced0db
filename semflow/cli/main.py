"""The console command `semflow`: finds the sub-command, runs it, and turns errors into one line.

A sub-command is a module of this package whose docstring is its description. It has either
`add_arguments(parser)` and `run(args) -> int`, or, where it reads its own command line, `main(argv) -> int`.
Modules are imported only when their command is run, so that `semflow --help` is fast.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import importlib.util
import os
import sys
from contextlib import nullcontext
from typing import NoReturn, Sequence

from semflow import __version__
from semflow.utils.errors import ConfigError, OtherRankFailed, SemflowError

SHARED_COMMANDS = ("train", "evaluate", "render")  # several processes can share their work
COMMANDS = ("train", "evaluate", "render", "edit", "track", "reproduce", "check", "prepare", "make-scene", "benchmark", "measure-edits")
EXIT_ERROR, EXIT_INTERRUPTED = 2, 130
TORCH_SETTINGS = {  # read when torch is imported, or at its first tensor; what the environment says wins
    "PYTORCH_ENABLE_MPS_FALLBACK": "1",  # operators that torch lacks on Apple GPUs run on the CPU
    "THP_MEM_ALLOC_ENABLE": "1",  # tensors of megabytes lie in large pages on Linux; see docs/benchmarks.md
}


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser that accepts no abbreviations and raises ConfigError instead of exiting."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `semflow` with `argv` (the process's arguments by default); returns the exit status."""
    for name, value in TORCH_SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        with _other_processes():
            status = _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()  # here, where a closed pipe can be dealt with
        return status
    except OtherRankFailed:
        return EXIT_ERROR
    except SemflowError as error:
        return _complain(str(error))
    except BrokenPipeError:  # the reader of our output has left, as in `semflow … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _complain(f"{place}{error.strerror or error}; check path, permissions and free space")
    except KeyboardInterrupt:
        print("semflow: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def command_summaries() -> dict[str, str]:
    """The commands, each with the first line of its module's docstring; nothing is imported."""
    summaries = {}
    for name in COMMANDS:
        spec = importlib.util.find_spec(_module_name(name))
        docstring = ast.get_docstring(ast.parse(spec.loader.get_source(spec.name))) or ""
        summaries[name] = docstring.split("\n")[0]
    return summaries


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview())
        return 0 if argv else EXIT_ERROR
    if argv[0] == "--version":
        print(f"semflow {__version__}")
        return 0
    try:
        return _run_command(argv[0], argv[1:])
    except SystemExit as stop:  # argparse after --help
        return stop.code if isinstance(stop.code, int) else EXIT_ERROR if stop.code else 0


def _run_command(name: str, argv: list[str]) -> int:
    known = command_summaries()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(known)}"
        raise ConfigError(f"unknown command {name!r}; {hint}")
    if _is_shared() and name not in SHARED_COMMANDS:
        raise ConfigError(f"{name}: works in one process; start it without torchrun")
    module = importlib.import_module(_module_name(name))
    if hasattr(module, "main"):
        return module.main(argv)
    parser = CommandParser(prog=f"semflow {name}", description=module.__doc__,
                           formatter_class=argparse.RawDescriptionHelpFormatter)
    module.add_arguments(parser)
    return module.run(parser.parse_args(argv))


def _is_shared() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _other_processes():
    """The processes that `torchrun` started with this one, joined while a block runs."""
    if not _is_shared():
        return nullcontext()
    from semflow.utils.ranks import joined

    return joined()


def _module_name(command: str) -> str:
    return f"semflow.cli.{command.replace('-', '_')}"


def _overview() -> str:
    lines = ["usage: semflow COMMAND [options]", "",
             "Semantic fields of dynamic scenes from one moving camera's video.", "", "commands:"]
    lines += [f"  {name:<15}{summary}" for name, summary in command_summaries().items()]
    return "\n".join(lines + ["", "semflow COMMAND --help describes a command."])


def _complain(message: str) -> int:
    print(f"semflow: error: {' '.join(message.split())}", file=sys.stderr)
    return EXIT_ERROR


if __name__ == "__main__":
    sys.exit(main())
