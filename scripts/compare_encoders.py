"""Compare the encoders that need no download: one static stage, then the dynamic stage once per encoder, nothing else.

Writes OUT/<encoder>/eval/… per encoder and OUT/encoders.json, and prints a table (docs/encoders.md).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

from semflow.config.parser import config_from_file
from semflow.config.schema import Config
from semflow.engine.evaluator import evaluate
from semflow.engine.protocols import find_protocol
from semflow.engine.stages import stage_fields
from semflow.engine.trainer import Trainer
from semflow.rendering.model_renderer import ModelRenderer
from semflow.utils.files import write_json

VARIANTS = {
    "none": {"kind": "none"},
    "pixels": {"kind": "pixels", "surface_cues": False},
    "joint": {"kind": "joint", "surface_cues": False},
    "slowonly, random": {"kind": "slowonly", "surface_cues": False},
    "pixels + surface cues": {"kind": "pixels", "surface_cues": True},
    "slowonly, random + surface cues": {"kind": "slowonly", "surface_cues": True},
}


def alone(base: Config, field: str, steps: int) -> Config:
    """The base configuration with one stage alone, `steps` long."""
    stages = {name: replace(stage, steps=0) for name, stage in stage_fields(base).items()}
    return replace(base, **stages | {field: replace(stages[field], steps=steps, decay_steps=steps)})


def static_config(base: Config, steps: int, out: Path) -> Config:
    """The start that all variants share."""
    return replace(alone(base, "static_stage", steps), out=str(out / "static"))


def variant_config(base: Config, name: str, steps: int, out: Path) -> Config:
    """What is trained after it with another encoder."""
    return replace(
        alone(base, "dynamic_stage", steps), out=str(out / name.replace(" ", "_").replace(",", "")),
        encoder=replace(base.encoder, **VARIANTS[name]))


def run_to_the_end(trainer: Trainer) -> None:
    """Train; KeyboardInterrupt if a signal ended the run, for nothing may be made of half a one."""
    if not trainer.run():
        raise KeyboardInterrupt


def score(trainer: Trainer, every: int) -> dict[str, float]:
    """Held-out figures of a trained model, protocol `corrected`."""
    contexts = dict(zip((scene.name for scene in trainer.kept), trainer.contexts))
    renderer = ModelRenderer(trainer.model, contexts, trainer.config.render)
    scenes = [scene.data for scene in trainer.scenes]
    result = evaluate(renderer, scenes, trainer.folder.eval, find_protocol("corrected"), every=every, progress=False)
    print(result.table, flush=True)
    return result.means


def main() -> None:
    """Train and score every variant."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", default="configs/balloon.txt")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--steps", type=int, default=200, help="steps of each dynamic stage")
    parser.add_argument("--static_steps", type=int, default=500)
    parser.add_argument("--every", type=int, default=6, help="score one in N views")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="NAME",
                        help=f"of: {'; '.join(VARIANTS)}")
    parser.add_argument("--out", type=Path, default=Path("runs/encoders"))
    options = parser.parse_args()
    base = config_from_file(options.config)
    base = replace(base, data=replace(base.data, dir=options.data_dir), train=replace(base.train, images_every=0))
    static = Trainer(static_config(base, options.static_steps, options.out))
    run_to_the_end(static)
    found = {}
    for name in options.variants:
        trainer = Trainer(variant_config(base, name, options.steps, options.out))
        trainer.model.static.load_state_dict(static.model.static.state_dict())
        began = time.monotonic()
        run_to_the_end(trainer)
        seconds = (time.monotonic() - began) / options.steps
        found[name] = {"seconds_per_step": seconds, "scores": score(trainer, options.every)}
        print(f"== {name}: {seconds:.2f} s a step", flush=True)
        write_json(options.out / "encoders.json", found)


if __name__ == "__main__":
    main()
