"""The documentation names files, keys and commands that exist."""

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest

from semflow.cli.main import command_summaries
from semflow.config.keys import known_keys
from semflow.config.parser import parse_arguments

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "data" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")  # file, anchor
PATHS = re.compile(r"`((?:configs|docs|scripts|semflow|tests)/[\w./-]+)`")
CITATION = re.compile(r'(docs/\w+\.md)(?:, "([^"\n]+)")?')  # a page, or a heading of it
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
GROUPS = "|".join(sorted({name.split(".")[0] for name in known_keys() if "." in name}))
KEYS = re.compile(rf"`((?:{GROUPS})\.[a-z_.]+)(?: = [^`]+)?`")
COMMAND = re.compile(r"^(semflow|python train\.py|python scripts/\w+\.py)(?=\s)(.*)$", re.MULTILINE)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands(page: Path) -> list[list[str]]:
    """The command lines in the fenced blocks of a page, as words, `python train.py` read as `semflow train`."""
    blocks = "\n".join(re.findall(r"```\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)).replace("\\\n", " ")
    found = []
    for door, rest in COMMAND.findall(blocks):
        words = shlex.split(rest, comments=True)
        if door.startswith("python scripts/"):
            continue
        found.append(["train", *words] if door == "python train.py" else words)
    return found


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings: lower case, blanks to hyphens, no other signs."""
    headings = HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_paths_exist(page):
    text = page.read_text(encoding="utf-8")
    missing = [link for link, _ in LINK.findall(text) if link and not (page.parent / link).exists()]
    missing += [f"{link}#{anchor}" for link, anchor in LINK.findall(text)
                if anchor and anchor not in anchors(page.parent / link if link else page)]
    missing += [path for path in PATHS.findall(text) if not (ROOT / path).exists()]
    assert missing == []


def test_what_the_source_cites_exists():
    sources = [path for folder in ("semflow", "tests", "scripts") for path in sorted((ROOT / folder).rglob("*.py"))]
    cited = {match.groups() for path in sources for match in CITATION.finditer(path.read_text(encoding="utf-8"))}
    assert {("docs/method.md", heading) for heading in ("Flow", "Features along the flow", "Fields", "Rendering")} <= cited
    assert [page for page, _ in cited if not (ROOT / page).exists()] == []
    headings = {page: HEADING.findall((ROOT / page).read_text(encoding="utf-8")) for page, _ in cited}
    assert [(page, heading) for page, heading in cited if heading and heading not in headings[page]] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_keys_exist(page):
    named = KEYS.findall(page.read_text(encoding="utf-8"))
    assert [key for key in named if key not in known_keys()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_accepted(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for words in commands(page):
        command, *rest = words
        if command in ("--help", "COMMAND") or "--help" in rest:
            continue
        assert command in command_summaries(), words
        module = importlib.import_module(f"semflow.cli.{command.replace('-', '_')}")
        if command == "train":
            parse_arguments(rest, module._add_options)
        elif command == "evaluate" and "--run" not in rest:
            parse_arguments(rest, module.add_baseline_arguments)
        else:
            parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
            module.add_arguments(parser)
            parser.parse_args(rest)


def test_the_pages_do_show_commands():
    assert {words[0] for page in PAGES for words in commands(page)} >= {"train", "evaluate", "render", "check"}


def test_the_readme_shows_no_picture_that_is_missing():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)|<img[^>]*src=\"([^\"]+)\"", text)
    assert all((ROOT / (markdown or html)).is_file() for markdown, html in pictures)
