"""A published model in miniature to measure, and records with figures that nobody measured."""

from dataclasses import replace

from semflow.config.schema import Config, EncoderConfig, ModelConfig
from semflow.engine.benchmark import BenchmarkSettings
from semflow.engine.benchmark_quality import Quality, QualityPoint
from semflow.engine.benchmark_report import Part
from semflow.engine.benchmark_stages import STAGES, StageTime, StageTimes
from semflow.engine.benchmark_sweep import SweepPoint
from semflow.engine.benchmark_timing import Measurement

MEASURED = Measurement(seconds=2.0, product_seconds=0.5, products=4.0, peak_bytes=10**9, setup_bytes=10**8, runs=5)


def tiny(kind: str = "pixels", static_kind: str = "none", width: int = 24) -> BenchmarkSettings:
    """All losses of both stages on 8 rays of 4 samples."""
    config = Config(
        encoder=EncoderConfig(kind=kind, static_kind=static_kind),
        model=ModelConfig(code_hidden=8, code_width=4, static_width=8, dynamic_width=8, flow_width=8, attention_width=8))
    stages = {name: replace(getattr(config, name), rays=8, samples=4) for name in ("static_stage", "dynamic_stage")}
    config = replace(config, **stages, render=replace(config.render, samples=4))
    return BenchmarkSettings(config, 16, width, 3, 4, render_height=10, render_width=12, repeats=1, device="cpu")


def made_up_stages(seconds: float) -> StageTimes:
    """Each stage takes `seconds`, and a product half a second."""
    stages = {name: StageTime(seconds, 2 * seconds, 3) for name in (*STAGES, "other")}
    return StageTimes(stages, seconds * len(stages), 0.5, MEASURED)


def made_up_part(name: str = "fast", products: float = 4.0) -> Part:
    """Every kind of figure."""
    measured = replace(MEASURED, products=products)
    points = [QualityPoint(
        m, 61.0 * m, 0.5, {"static": 10 * m, "flow": 0, "dynamic": 20 * m}, 33,
        {"psnr": 20.0 + m, "miou_foreground": 0.9}, {"psnr": 19.0, "miou_foreground": 0.7}) for m in (1, 2)]
    return Part(
        name, tiny(), 0.1, {"dynamic": measured, "render": measured}, {"dynamic": made_up_stages(0.01)},
        {"rays": [SweepPoint(4, measured), SweepPoint(8, measured)]},
        Quality(("one",), "runs", "corrected-1", 4, {"static": 0.1, "dynamic": 0.2}, 5.0, points))
