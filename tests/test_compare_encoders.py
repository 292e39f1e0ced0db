"""`scripts/compare_encoders.py`: what is trained for the figures of docs/encoders.md."""

import importlib.util
from pathlib import Path

import pytest

from semflow.config.parser import config_from_file
from semflow.engine.stages import stages_of

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("compare_encoders", ROOT / "scripts" / "compare_encoders.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lengths(config) -> dict[str, tuple[int, int]]:
    return {stage.name: (stage.config.steps, stage.config.decay_steps) for stage in stages_of(config)}


def test_one_static_stage_is_shared_and_a_variant_is_a_dynamic_stage_alone(script):
    """Only then is the time of a variant over its number of steps the time of a dynamic step."""
    base = config_from_file(ROOT / "configs" / "balloon.txt")
    assert lengths(script.static_config(base, 40, Path("o"))) == {"static": (40, 40)}
    variants = {name: script.variant_config(base, name, 12, Path("o")) for name in script.VARIANTS}
    assert all(lengths(config) == {"dynamic": (12, 12)} for config in variants.values())
    assert len({config.out for config in variants.values()} | {"o/static"}) == len(variants) + 1
    assert len({config.encoder for config in variants.values()}) == len(variants)


def test_nothing_is_made_of_a_run_that_a_signal_ended(script):
    class Stopped:
        run = staticmethod(lambda: False)

    with pytest.raises(KeyboardInterrupt):
        script.run_to_the_end(Stopped())
