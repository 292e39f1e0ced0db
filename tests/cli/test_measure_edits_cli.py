"""`semflow measure-edits`: what is wrong with the command line is one line, and nothing is written."""

import pytest

from semflow.cli.main import main


@pytest.mark.parametrize("extra, message", [
    (["--without", "ball"], "no such run folder"), (["--shift", "ball:1,2"], "'ball:1,2': write it as KIND:X,Y,Z"),
    (["--witout", "ball"], "witout"), ([], "--without KIND or --shift KIND:X,Y,Z"),
    (["--without", "ball", "--checkpoint", __file__], "no such run folder"),
    (["--without", "ball", "--every", "0"], "every = 0: must be at least 1")])
def test_what_cannot_be_measured_is_one_line(tmp_path, capsys, extra, message):
    assert main(["measure-edits", "--run", str(tmp_path / "absent"), *extra]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and not list(tmp_path.iterdir())
