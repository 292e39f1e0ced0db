"""Configuration files: syntax, mistakes, chains of bases."""

import pytest

from semflow.config.files import base_chain, read_config_file
from semflow.config.parser import config_from_file, parse_config
from semflow.utils.errors import ConfigError


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_syntax(write):
    path = write("c.txt", """\ufeff# a comment
        data.dir = a path/with#hash  # and a comment
        out = "quoted # text\\n"
        data.scenes=[A, "B, C"]   # list
        data.static_classes = A:x, B:y
        model.plane_levels = [8]
        train.bf16 = true
        model.displacement = False
        dynamic_stage.losses.flow_forward = 2e-2
        init =   # empty
    """)
    values = read_config_file(path).values
    assert values == {
        "data.dir": "a path/with#hash", "out": "quoted # text\n", "data.scenes": ("A", "B, C"),
        "data.static_classes": ("A:x", "B:y"), "model.plane_levels": (8,), "train.bf16": True,
        "model.displacement": False, "dynamic_stage.losses.flow_forward": 0.02, "init": "",
    }
    config = config_from_file(path)
    assert config.data.scenes == ("A", "B, C") and config.train.bf16 and not config.model.displacement
    assert config.dynamic_stage.losses.flow_forward == 0.02 and config.out == "quoted # text\n"


def test_an_empty_list_in_a_file_replaces_the_default(write):
    assert config_from_file(write("c.txt", "data.static_classes = []")).data.static_classes == ()


@pytest.mark.parametrize("line, parts", [
    ("data.factr = 2", ["data.factr", "did you mean data.factor?"]),
    ("scene = A", ["scene", "did you mean data.scenes?"]),
    ("steps = 3", ["steps", "did you mean"]),
    ("config = other.txt", ["unknown key config"]),
    ("flow_forwrd = 1", ["losses.flow_forward?"]),
    ("train.bf16 = Ture", ["train.bf16 = 'Ture'", "true or false"]),
    ("train.bf16 = yes", ["train.bf16 = 'yes'", "true or false"]),
    ("train.bf16", ["'train.bf16'", "key = value"]),
    ("data.factor 2", ["key = value"]),
    ("data.factor: 2", ["key = value"]),
    ("data.factor =", ["data.factor = ''", "whole number"]),
    ("data.factor = two", ["data.factor = 'two'", "whole number"]),
    ("data.factor = -2", ["data.factor = -2", "at least 1"]),
    ("dynamic_stage.lr = inf", ["dynamic_stage.lr = inf", "finite"]),
    ("model.flow_length = 4", ["model.flow_length = 4", "1, 3, 5"]),
    ("data.scenes = [A, B", ["data.scenes", "list"]),
    ('data.scenes = ["A]', ["data.scenes", "quote"]),
    ('out = "x', ["out", "quote"]),
    ('out = "x" y', ["out", "quotes"]),
    ("base =", ["base is empty"]),
    ("data = 3", ["unknown key data"]),
    ("<<<<<<< HEAD", ["key = value"]),
])
def test_a_wrong_line_is_named_with_file_and_number(write, line, parts):
    path = write("wrong.txt", f"# first\n\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        parse_config(["--config", str(path)])
    message = str(caught.value)
    assert message.startswith(f"{path}, line 3: ") and "\n" not in message
    for part in parts:
        assert part in message


def test_a_key_given_twice_names_both_lines(write):
    path = write("c.txt", "data.factor = 2\n\ndata.factor = 2\n")
    with pytest.raises(ConfigError, match=r"line 3: data.factor is given twice \(first in line 1\)"):
        config_from_file(path)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", "data.dir = ä".encode("latin-1")])
def test_a_file_that_is_no_text(write, content):
    with pytest.raises(ConfigError, match="c.txt: not a UTF-8 text file"):
        config_from_file(write("c.txt", content))


def test_a_folder_is_no_configuration(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        config_from_file(tmp_path)


class TestBases:
    def test_the_nearer_file_wins_over_several_levels(self, write):
        write("base.txt", "data.factor = 8\ntrain.seed = 1\nout = base\ntrain.bf16 = true\nmodel.plane_levels = [1, 2]")
        write("sub/middle.txt", "base = ../base.txt\ntrain.seed = 2\nout = middle\ntrain.bf16 = false")
        leaf = write("sub/deep/leaf.txt", "out = leaf\nbase = ../middle.txt\n")
        assert [path.name for path in base_chain(leaf)] == ["base.txt", "middle.txt", "leaf.txt"]
        config = config_from_file(leaf)
        assert (config.data.factor, config.train.seed, config.out, config.train.bf16) == (8, 2, "leaf", False)
        assert config.model.plane_levels == (1, 2)

    @pytest.mark.parametrize("names", [["a"], ["a", "b"], ["a", "b", "c"]])
    def test_cycles(self, write, names):
        for name, following in zip(names, names[1:] + names[:1]):
            write(f"{name}.txt", f"base = {following}.txt")
        with pytest.raises(ConfigError, match="cycle"):
            config_from_file(write("start.txt", "base = a.txt"))

    def test_a_missing_base_is_named_with_the_file_that_asks(self, write):
        path = write("c.txt", "base = gone.txt")
        with pytest.raises(ConfigError, match=r"gone.txt: no such configuration file \(base of .*c.txt\)"):
            config_from_file(path)

    def test_two_bases_are_refused(self, write):
        path = write("c.txt", "base = a.txt\nbase = b.txt")
        with pytest.raises(ConfigError, match="line 2: base is given twice"):
            config_from_file(path)

    def test_a_mistake_in_a_base_counts_even_where_it_is_overridden(self, write):
        write("base.txt", "train.bf16 = Ture")
        with pytest.raises(ConfigError, match="base.txt, line 1: train.bf16"):
            config_from_file(write("c.txt", "base = base.txt\ntrain.bf16 = true"))
