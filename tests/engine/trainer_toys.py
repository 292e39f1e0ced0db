"""A run of a few steps on a tiny scene."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from semflow.config.parser import config_from_file
from semflow.config.schema import Config
from semflow.engine.checkpoint import load_checkpoint
from semflow.engine.run_folder import RunFolder
from semflow.engine.trainer import train

ROOT = Path(__file__).resolve().parents[2]
STEPS = 4  # of each stage


def tiny_config(data: Path, out: Path) -> Config:
    """Two stages of narrow networks on the scene `one`."""
    base = config_from_file(ROOT / "configs" / "debug.txt")
    small = {"steps": STEPS, "rays": 24, "samples": 8, "surface_samples": 2, "decay_steps": 100, "warmup_steps": 0}
    return replace(
        base,
        out=str(out),
        device="cpu",
        data=replace(base.data, dir=str(data), scenes=("one",)),
        model=replace(base.model, plane_levels=(8, 16), plane_channels=4, static_width=16, dynamic_width=16, flow_width=16),
        static_stage=replace(base.static_stage, **small),
        flow_stage=replace(base.flow_stage, steps=0),
        dynamic_stage=replace(base.dynamic_stage, **small),
        train=replace(base.train, save_every=2, images_every=0, log_every=1, threads=1),
        render=replace(base.render, samples=8, fine_samples=4, occupancy=8),
    )


def trained(config: Config) -> str:
    """The folder of a run that has ended."""
    assert train(config)
    return config.out


def weights(run: str) -> dict[str, torch.Tensor]:
    return load_checkpoint(RunFolder(run).require_checkpoint())["model"]


def assert_same(first: dict, second: dict) -> None:
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name
