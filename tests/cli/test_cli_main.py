"""The console command: finding commands, and errors as one line with the right exit status."""

import contextlib
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

import semflow.cli.main as cli
from semflow.utils import ranks
from semflow.utils.errors import DataError, OtherRankFailed


@pytest.fixture
def command(monkeypatch):
    """Makes `semflow check` a stand-in whose `run` is the given function."""

    def command(run):
        module = types.ModuleType("semflow.cli.check", "Check data.\n\nMore about it.")
        module.add_arguments = lambda parser: parser.add_argument("data") and parser.add_argument("--factor", type=int)
        module.run = run
        monkeypatch.setattr(cli, "command_summaries", lambda: {"check": "Check data.", "train": "Train."})
        monkeypatch.setattr(cli.importlib, "import_module", lambda name: {"semflow.cli.check": module}[name])

    return command


def error_line(capsys) -> str:
    captured = capsys.readouterr()
    assert captured.err.startswith("semflow: error: ") and captured.err.count("\n") == 1 and captured.err.endswith("\n")
    return captured.err


def test_every_command_has_a_module_and_every_other_module_is_none():
    modules = {path.stem.replace("_", "-") for path in Path(cli.__file__).parent.glob("*.py")}
    assert set(cli.COMMANDS) == modules - {"--init--", "main", "run-options"}
    assert set(cli.SHARED_COMMANDS) < set(cli.COMMANDS)


def test_help_lists_the_commands(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, summary in cli.command_summaries().items():
        assert f"  {name}" in text and summary and summary in text
    assert tuple(cli.command_summaries()) == cli.COMMANDS


def test_no_command_shows_the_help_and_fails(capsys):
    assert cli.main([]) == 2
    assert "usage: semflow COMMAND" in capsys.readouterr().out


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("semflow ")


def test_a_command_gets_its_arguments_and_gives_its_status(command):
    seen = []
    command(lambda args: seen.append((args.data, args.factor)) or 5)
    assert cli.main(["check", "folder", "--factor", "4"]) == 5
    assert seen == [("folder", 4)]


def test_help_of_a_command_shows_its_docstring(command, capsys):
    command(None)
    assert cli.main(["check", "--help"]) == 0
    assert "More about it." in capsys.readouterr().out


@pytest.mark.parametrize("argv, part", [
    (["chekc"], "did you mean check?"),
    (["xyz"], "choose one of check, train"),
    (["--verbose"], "unknown command '--verbose'"),
    (["check"], "data"),
    (["check", "d", "--fact", "2"], "--fact"),
    (["check", "d", "--factor", "two"], "invalid int value"),
])
def test_wrong_usage_is_one_line(command, capsys, argv, part):
    command(None)
    assert cli.main(argv) == 2
    assert part in error_line(capsys)


@pytest.mark.parametrize("error, part", [
    (DataError("a.png: broken;\n make it again"), "a.png: broken; make it again"),
    (PermissionError(13, "Permission denied", "x.png"), "x.png: Permission denied"),
    (OSError(28, "No space left on device"), "No space left on device"),
])
def test_errors_of_input_are_one_line(command, capsys, error, part):
    def run(args):
        raise error

    command(run)
    assert cli.main(["check", "d"]) == 2
    assert part in error_line(capsys)


def test_an_interrupt_has_its_own_status(command, capsys):
    def run(args):
        raise KeyboardInterrupt

    command(run)
    assert cli.main(["check", "d"]) == 130
    assert capsys.readouterr().err == "semflow: interrupted\n"


def test_a_mistake_of_the_program_is_not_hidden(command):
    command(lambda args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["check", "d"])


def test_the_overview_imports_no_torch_and_a_wrong_configuration_neither():
    code = """
import sys
from semflow.cli.main import main
status = main(["--help"]), main(["train", "--data.factor", "0"])
sys.exit(f"{status} {'torch' in sys.modules}")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr.splitlines() == ["semflow: error: data.factor = 0: must be at least 1", "(0, 2) False"]


@pytest.mark.parametrize("argv", [["--help"], ["train", "--help"]])
def test_a_reader_that_leaves_early_causes_no_traceback(argv):
    code = "import sys; from semflow.cli.main import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen([sys.executable, "-c", code, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env=os.environ | {"PYTHONUNBUFFERED": ""})
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait()


def test_a_process_whose_fellow_failed_says_nothing(command, capsys):
    def fail(args):
        raise OtherRankFailed

    command(fail)
    assert cli.main(["check", "x"]) == 2 and capsys.readouterr().err == ""


def test_commands_that_cannot_share_their_work_refuse_several_processes(command, monkeypatch, capsys):
    command(lambda args: 0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(ranks, "joined", contextlib.nullcontext)
    assert cli.main(["check", "x"]) == 2 and "check: works in one process" in error_line(capsys)
    monkeypatch.setattr(cli, "SHARED_COMMANDS", ("check",))
    assert cli.main(["check", "x"]) == 0


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage/enabled").exists(), reason="only Linux has large pages of this kind")
@pytest.mark.parametrize("asked", ["", "0"])
def test_large_tensors_lie_in_large_pages_unless_the_environment_says_otherwise(asked):
    """`hg` marks the memory for which they were asked."""
    code = (
        "from semflow.cli.main import main; main(['--help']); import torch; kept = torch.ones(2**24);"
        "print(sum('hg' in line.split() for line in open('/proc/self/smaps') if line.startswith('VmFlags')))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    if asked:
        environment["THP_MEM_ALLOC_ENABLE"] = asked
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert (int(found.stdout.split()[-1]) > 0) == (asked != "0")
