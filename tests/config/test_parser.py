"""Command line, text and dictionary forms of the configuration."""

import contextlib
import io
import json
from dataclasses import replace

import pytest

from semflow.config.keys import ALIASES, known_keys
from semflow.config.parser import (
    build_parser, config_differences, config_from_dict, config_from_file, config_to_dict, config_to_text, parse_config,
    with_settings,
)
from semflow.config.schema import Config, DataConfig
from semflow.utils.errors import ConfigError


def changed(key):
    """A value of `key` that is allowed and not its default, and its words on the command line."""
    if key.is_list:
        items = {str: ("a b", "c"), int: (3, 5)}[key.kind]
        return items, [f"--{key.name}", *map(str, items)]
    if key.kind is bool:
        return not key.default, [f"--{'no-' if key.default else ''}{key.name}"]
    if key.choices:
        value = next(choice for choice in key.choices if choice != key.default)
    elif key.kind is str:
        value = "some text"
    else:
        value = key.kind(key.low or 0) if key.default != (key.low or 0) else key.kind(key.high or 7)
    return value, [f"--{key.name}", str(value)]


def refused(argv) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(argv)
    message = str(caught.value)
    assert "\n" not in message and message
    return message


class TestCommandLine:
    def test_nothing_gives_the_defaults_of_the_schema(self):
        assert parse_config([]) == Config()

    @pytest.mark.parametrize("name", known_keys())
    def test_every_key_can_be_set_and_sets_nothing_else(self, name):
        value, words = changed(known_keys()[name])
        try:
            config = parse_config(words)
        except ConfigError as error:  # a text the schema checks by itself, e.g. a list of frames
            assert name in str(error)
            return
        assert config_differences(Config(), config) == {name: (known_keys()[name].default, value)}

    def test_short_options(self):
        config = parse_config("--scene A B --data_dir d --seed 7 --device cpu --out o".split())
        assert (config.data.scenes, config.data.dir, config.train.seed) == (("A", "B"), "d", 7)
        assert (config.device, config.out) == ("cpu", "o")
        assert set(ALIASES.values()) <= set(known_keys())

    def test_lists_with_commas_and_brackets(self):
        for words in (["A", "B"], ["A,B"], ["[A, B]"], ["[A,", "B]"], ['["A", "B"]']):
            assert parse_config(["--scene", *words]).data.scenes == ("A", "B")
        assert parse_config(["--data.static_classes"]).data.static_classes == ()
        assert parse_config(["--data.static_classes", "[]"]).data.static_classes == ()

    def test_negative_numbers_are_values(self):
        assert parse_config(["--train.seed", "-5"]).train.seed == -5

    @pytest.mark.parametrize("steps, static", [(4000, 3000), (1, 1), (0, 0), (9, 7)])
    def test_steps_scale_both_stages(self, steps, static):
        config = parse_config(["--steps", str(steps)])
        assert (config.dynamic_stage.steps, config.static_stage.steps) == (steps, static)

    def test_steps_go_before_a_file_and_after_an_explicit_key(self, tmp_path):
        (tmp_path / "c.txt").write_text("static_stage.steps = 11\ndynamic_stage.steps = 12\n")
        config = parse_config(["--config", f"{tmp_path}/c.txt", "--static_stage.steps=5", "--steps", "100"])
        assert (config.static_stage.steps, config.dynamic_stage.steps) == (5, 100)

    def test_steps_scale_the_decay_and_keep_the_warm_up(self, tmp_path):
        (tmp_path / "c.txt").write_text(
            "static_stage.steps = 300\nstatic_stage.decay_steps = 150\nstatic_stage.warmup_steps = 7\n"
            "dynamic_stage.steps = 100\ndynamic_stage.decay_steps = 100\n")
        config = parse_config(["--config", f"{tmp_path}/c.txt", "--steps", "800"])
        static, dynamic = config.static_stage, config.dynamic_stage
        assert (static.steps, static.decay_steps, static.warmup_steps) == (600, 300, 7)
        assert (dynamic.steps, dynamic.decay_steps) == (800, 800)
        assert config.flow_stage == Config().flow_stage
        assert parse_config(["--steps", "40000"]).static_stage.decay_steps == 40_000  # half of the published lengths
        assert parse_config(["--steps", "0"]).dynamic_stage.decay_steps == 1

    def test_a_decay_or_a_length_of_the_command_line_is_taken_as_it_is(self, tmp_path):
        (tmp_path / "c.txt").write_text("static_stage.steps = 0\nstatic_stage.decay_steps = 60\n"
                                        "dynamic_stage.steps = 100\ndynamic_stage.decay_steps = 100\n")
        argv = ["--config", f"{tmp_path}/c.txt", "--steps", "800"]
        assert parse_config([*argv, "--dynamic_stage.decay_steps=33"]).dynamic_stage.decay_steps == 33
        assert parse_config([*argv, "--dynamic_stage.steps", "50"]).dynamic_stage.decay_steps == 100

    def test_a_stage_that_the_file_leaves_out_stays_out(self, tmp_path):
        (tmp_path / "c.txt").write_text("static_stage.steps = 0\nstatic_stage.decay_steps = 60\n")
        argv = ["--config", f"{tmp_path}/c.txt", "--steps", "800"]
        config = parse_config(argv)
        assert (config.static_stage.steps, config.static_stage.decay_steps, config.dynamic_stage.steps) == (0, 60, 800)
        assert parse_config([*argv, "--static_stage.steps", "5"]).static_stage.steps == 5

    def test_command_line_goes_before_the_file_whatever_the_spelling(self, tmp_path):
        (tmp_path / "c.txt").write_text("data.scenes = [A]\ntrain.bf16 = true\ndata.factor = 4\n")
        argv = ["--scene", "B", "--no-train.bf16", "--data.factor=8", f"--config={tmp_path}/c.txt"]
        config = parse_config(argv)
        assert (config.data.scenes, config.train.bf16, config.data.factor) == (("B",), False, 8)

    @pytest.mark.parametrize("argv, parts", [
        (["--data.fact", "2"], ["--data.fact", "did you mean --data.factor?"]),
        (["--dev", "cpu"], ["--dev"]),
        (["--confg", "c.txt"], ["--confg", "did you mean --config?"]),
        (["--lr", "1"], ["--lr", "did you mean --static_stage.lr?"]),
        (["--no-data.factor"], ["--no-data.factor"]),
        (["--data.factor", "0"], ["data.factor = 0", "at least 1"]),
        (["--data.factor", "1.5"], ["data.factor = '1.5'", "whole number"]),
        (["--data.factor", "9" * 5000], ["data.factor", "whole number"]),
        (["--scene"], ["data.scenes", "name a scene"]),
        (["--scene", "A", "B", "A"], ["data.scenes", "A is named twice"]),
        (["--model.plane_levels"], ["model.plane_levels", "name the resolution"]),
        (["--model.plane_levels", "8", "0"], ["model.plane_levels = 0", "at least 1"]),
        (["--model.flow_plane_levels", "[]"], ["model.flow_plane_levels", "name the resolution"]),
        (["--train.clip_norm", "nan"], ["train.clip_norm", "finite"]),
        (["--train.clip_norm", "1e999"], ["train.clip_norm", "finite"]),
        (["--data.space", "nbc"], ["data.space = 'nbc'", "ndc, metric"]),
        (["--model.plane_levels", "64", "x"], ["model.plane_levels = 'x'", "whole number"]),
        (["--scene", "[A"], ["data.scenes", "list"]),
        (["--scene", "A,,B"], ["data.scenes", "list"]),
        (["--data.factor"], ["data.factor", "expected"]),
        (["--train.bf16=true"], ["--train.bf16", "switch"]),
        (["--train.bf16", "Ture"], ["'Ture'", "switch"]),
        (["--seed", "1", "--train.seed", "2"], ["train.seed", "twice"]),
        (["--train.bf16", "--no-train.bf16"], ["train.bf16", "twice"]),
        (["--scene", "A", "--scene", "B"], ["data.scenes", "twice"]),
        (["--steps", "-1"], ["steps = -1", "at least 0"]),
        (["--steps", "many"], ["steps = 'many'", "whole number"]),
        (["--config", "a.txt", "--config", "b.txt"], ["--config", "twice", "a.txt", "b.txt", "base"]),
        (["--config"], ["--config", "expected"]),
        (["--config", "/nowhere/c.txt"], ["/nowhere/c.txt", "no such"]),
        (["c.txt"], ["'c.txt'"]),
        (["--"], ["--"]),
    ])
    def test_mistakes_are_one_line_that_names_them(self, argv, parts):
        message = refused(argv)
        for part in parts:
            assert part in message

    def test_a_check_of_a_record_itself_is_named_by_its_full_key(self, monkeypatch):
        def fail(self):
            if self.factor == 3:
                raise ConfigError("factor = 3: is odd")

        monkeypatch.setattr(DataConfig, "__post_init__", fail)
        assert refused(["--data.factor", "3"]) == "data.factor = 3: is odd"


class TestHelp:
    def test_help_names_every_key_with_help_default_and_group(self):
        text = " ".join(build_parser().format_help().split())
        for key in known_keys().values():
            assert f"--{key.name}" in text
            assert " ".join(key.help.split()) in text
            assert f"default {key.format(key.default)}]" in text
        for group in ("dynamic_stage.losses:", "data:", "--scene", "--data_dir", "round(3N/4)"):
            assert group in text

    def test_help_ends_well_even_beside_mistakes(self):
        with pytest.raises(SystemExit) as stop, contextlib.redirect_stdout(io.StringIO()):
            parse_config(["--help", "--config", "/nowhere"])
        assert stop.value.code == 0


def awkward_config() -> Config:
    config = Config(out=' a # "quoted" \\ path\nwith ünicode', init="[x", device="")
    data = replace(config.data, dir="it's, fine", scenes=("a, b", "]", "", "-x", "ü"), static_classes=())
    stage = replace(config.dynamic_stage, lr=0.1 + 0.2, surface_spread=1e-300, steps=2**40)
    return replace(config, data=data, dynamic_stage=stage, train=replace(config.train, bf16=True, seed=-3))


class TestTextForm:
    @pytest.mark.parametrize("config", [Config(), awkward_config()], ids=["default", "awkward"])
    def test_round_trip_is_exact(self, config, tmp_path):
        path = tmp_path / "a [1] file.txt"  # brackets are a pattern to ConfigArgParse
        path.write_text(config_to_text(config), encoding="utf-8")
        assert config_from_file(path) == config

    def test_undecodable_names_survive(self, tmp_path):
        config = Config(out="run\udcff")  # how Python shows a byte that is not UTF-8
        (tmp_path / "c.txt").write_text(config_to_text(config), encoding="utf-8")
        assert config_from_file(tmp_path / "c.txt") == config

    def test_every_key_stands_there_with_its_help(self):
        lines = config_to_text(Config()).splitlines()
        for key in known_keys().values():
            at = lines.index(f"{key.name} = {key.format(key.default)}")
            assert lines[at - 1].startswith(f"# {key.help}")


class TestDictionaryForm:
    @pytest.mark.parametrize("config", [Config(), awkward_config()], ids=["default", "awkward"])
    def test_round_trip_through_json_is_exact(self, config):
        assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config

    def test_absent_keys_have_their_defaults_and_whole_numbers_become_floats(self):
        config = config_from_dict({"train": {"clip_norm": 2}})
        assert config_differences(Config(), config) == {"train.clip_norm": (10.0, 2.0)}
        assert type(config.train.clip_norm) is float

    @pytest.mark.parametrize("values, part", [
        ({"trian": {}}, "trian"),
        ({"train": {"sede": 1}}, "train.seed"),
        ({"train": 3}, "train"),
        ({"train": {"seed": "1"}}, "train.seed = '1'"),
        ({"train": {"seed": True}}, "train.seed = True"),
        ({"train": {"seed": 1.0}}, "train.seed = 1.0"),
        ({"train": {"bf16": 1}}, "train.bf16 = 1"),
        ({"train": {"clip_norm": float("inf")}}, "train.clip_norm = inf"),
        ({"data": {"scenes": "balloon"}}, "data.scenes"),
        ({"data": {"factor": 0}}, "at least 1"),
        ({"data": {"space": "x"}}, "ndc, metric"),
        ([], "dictionary"),
    ])
    def test_wrong_entries_are_named(self, values, part):
        with pytest.raises(ConfigError) as caught:
            config_from_dict(values)
        assert part in str(caught.value)


class TestSettingsOfARun:
    def test_keys_of_the_group_are_replaced_and_nothing_else(self):
        config = with_settings(Config(), ["render.samples=96", " render.occupancy = 0"], "render")
        assert config_differences(Config(), config) == {"render.samples": (64, 96), "render.occupancy": (64, 0)}
        assert with_settings(Config(), [], "render") == Config()

    @pytest.mark.parametrize(("setting", "part"), [
        ("render.samples", "KEY=VALUE"), ("model.octaves=3", "only keys of render"), ("render.sample=3", "did you mean render.samples"),
        ("render.samples=1", "at least 2"), ("render.samples=x", "render.samples")])
    def test_wrong_settings_are_named(self, setting, part):
        with pytest.raises(ConfigError, match=part):
            with_settings(Config(), [setting], "render")
