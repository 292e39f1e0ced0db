"""The benchmark on a tiny case: what is measured, on what, and what is said about it."""

import json
import math
import time
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace

import pytest
import torch
from benchmark_toys import MEASURED, made_up_stages, tiny

from semflow.cli.main import main
from semflow.config.schema import PAPER_DYNAMIC_LOSSES, DataConfig, ModelConfig
from semflow.engine import benchmark, benchmark_timing
from semflow.engine.benchmark import STAGE_CASES, build_bench, measure, measure_here, step_of
from semflow.engine.benchmark_scene import arc_cameras, random_scene
from semflow.engine.benchmark_timing import Product, time_work
from semflow.engine.building import encode_scenes
from semflow.utils.errors import SemflowError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_product(monkeypatch):
    """A small product keeps the tests short."""
    monkeypatch.setattr(benchmark_timing, "PRODUCT_SIZE", 64)


def test_time_is_the_median_of_the_repeats_and_products_of_the_ratios(monkeypatch):
    clock = iter([9.0, 1.0, 8.0, 3.0, 1.0, 2.0, 1.0, 4.0, 30.0, 6.0])  # warm-up, then product, work, product
    monkeypatch.setattr(benchmark_timing, "seconds_of", lambda work, device: (work(), next(clock))[1])
    runs = []
    found = time_work(lambda: runs.append(1), 3, CPU)
    assert len(runs) == 4 and found.runs == 3
    assert (found.seconds, found.product_seconds, found.products) == (8.0, 2.0, 4.0)


def test_seconds_are_wall_time():
    assert 0.05 <= benchmark_timing.seconds_of(lambda: time.sleep(0.05), CPU) < 60


def test_peak_sees_what_a_run_holds():
    found = time_work(lambda: torch.ones(64, 1 << 20).sum(), 1, CPU)  # 256 MiB
    assert found.peak_bytes >= 200 << 20 and found.setup_bytes > 0


def test_cameras_lie_on_an_arc_and_look_at_its_middle():
    cameras = arc_cameras(5, 90, 160)
    middle = torch.tensor([[0.0, 0.0, -4.0]])
    for frame in range(5):
        uv, in_front = cameras.project(middle, frame)
        torch.testing.assert_close(uv, torch.tensor([[80.0, 45.0]]), atol=1e-3, rtol=0)
        assert bool(in_front) and (cameras.center(frame) - middle).norm() == pytest.approx(4.0)
    rotations = cameras.c2w[:, :, :3]
    torch.testing.assert_close(rotations @ rotations.mT, torch.eye(3).expand(5, 3, 3), atol=1e-6, rtol=0)
    assert (cameras.c2w[1:, 0, 3] > cameras.c2w[:-1, 0, 3]).all()


def test_the_random_scene_is_plausible_and_repeatable():
    scene = random_scene(DataConfig(), 4, 36, 64, 5, seed=3)
    assert scene.rgb.shape == (4, 36, 64, 3) and 0 <= scene.rgb.min() and scene.rgb.max() <= 1
    torch.testing.assert_close(scene.motion.float().mean((1, 2)), torch.full((4,), 0.1), atol=0.01, rtol=0)
    assert scene.disparity.min() > 0 and 0 <= scene.labels.min() and scene.labels.max() < 5
    assert not scene.flow_forward_valid[-1].any() and not scene.flow_backward_valid[0].any()
    assert 0.85 < scene.flow_forward_valid[:-1].float().mean() < 0.95
    again, other = (random_scene(DataConfig(), 4, 36, 64, 5, seed=seed) for seed in (3, 4))
    assert torch.equal(scene.rgb, again.rgb) and not torch.equal(scene.rgb, other.rgb)


def test_random_features_have_the_sizes_of_the_encoders():
    bench = build_bench(tiny("slowonly", "resnet18", width=27), CPU)
    true, random = encode_scenes(bench.model, bench.kept)[0], bench.contexts[0]
    for name in ("video", "image"):
        for part in ("maps", "code"):
            assert getattr(getattr(random, name), part).shape == getattr(getattr(true, name), part).shape, (name, part)
    assert random.code.shape == true.code.shape and random.frames == true.frames


def test_features_that_cost_little_are_the_true_ones():
    bench = build_bench(tiny(), CPU)
    torch.testing.assert_close(bench.contexts[0].video.maps, encode_scenes(bench.model, bench.kept)[0].video.maps)


@pytest.mark.parametrize("stage, trained", [
    ("static", {"static"}), ("flow", {"flow"}), ("dynamic", {"flow", "dynamic"})])
@pytest.mark.parametrize("scenes", [1, 2])
def test_a_step_trains_its_own_groups_and_no_other(stage, trained, scenes):
    bench = build_bench(replace(tiny(), scenes=scenes), CPU)
    assert len({tuple(scene.data.rgb.flatten().tolist()) for scene in bench.scenes}) == scenes
    groups = bench.model.parameter_groups()
    before = {name: [p.detach().clone() for p in group] for name, group in groups.items()}
    step_of(bench, stage)()
    for name, group in groups.items():
        changed = any(not torch.equal(old, new) for old, new in zip(before[name], group))
        assert changed == (name in trained), name


def assert_measured(case: dict) -> None:
    """All figures of a case of the record."""
    assert set(case) == {"seconds", "product_seconds", "products", "peak_bytes", "setup_bytes", "runs"}
    assert all(math.isfinite(value) and value > 0 for value in case.values())


def test_the_product_is_in_full_precision(monkeypatch):
    used = []
    monkeypatch.setattr(benchmark_timing, "seconds_of", lambda *_: used.append(torch.get_float32_matmul_precision()) or 1.0)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        Product(CPU).seconds()
        assert used == ["highest"] and torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_every_case_is_measured():
    for case in benchmark.CASES:
        found = measure_here(tiny(), case)
        assert_measured(asdict(found.step if case in STAGE_CASES else found))


def test_frames_are_rendered_at_their_own_size_and_from_new_views(monkeypatch):
    asked = []
    monkeypatch.setattr(benchmark.ModelRenderer, "render", lambda self, *view: asked.append(view))
    work = benchmark.render_frames(tiny(), CPU, frozenset({"rgb"}))
    for _ in range(3):
        work()
    assert [(view[1].height, view[1].width) for view in asked] == [(9, 16), (10, 12), (10, 12)]
    assert [view[2:4] for view in asked] == [(1, 1.0), (2, 2.0), (0, 0.0)] and asked[0][4] == {"rgb"}


def test_a_case_runs_in_a_process_of_its_own():
    assert_measured(vars(measure(tiny(), "static")))


def test_a_killed_process_is_one_line(monkeypatch):
    class Killed:
        def __init__(self, *args, **kwargs):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *args):
            return False

        def submit(self, *args):
            raise BrokenProcessPool("killed")

    monkeypatch.setattr(benchmark, "ProcessPoolExecutor", Killed)
    with pytest.raises(SemflowError, match="memory.*--rays"):
        measure(tiny(), "dynamic")


@pytest.fixture
def asked(monkeypatch):
    """Settings that the command line makes; nothing is measured."""
    calls = []

    def measured(settings, case):
        calls.append((case, settings))
        return made_up_stages(0.1) if case in STAGE_CASES else MEASURED

    monkeypatch.setattr(benchmark, "measure", measured)
    return calls


def test_the_published_preset_is_the_default_and_skips_the_encoding(asked, tmp_path, capsys):
    assert main(["benchmark", "--device", "cpu", "--json", str(tmp_path / "out.json")]) == 0
    expected = ["static", "dynamic", "stages-static", "stages-dynamic", "render-rgb", "render-semantic", "render"]
    assert [case for case, _ in asked] == expected
    settings = asked[0][1]
    dynamic = settings.config.dynamic_stage
    assert (dynamic.rays, dynamic.samples, settings.height, settings.width, settings.frames) == (1024, 64, 270, 480, 12)
    assert settings.config.train.recompute and settings.config.model == ModelConfig()
    assert dynamic.losses == PAPER_DYNAMIC_LOSSES
    assert "dynamic step" in capsys.readouterr().out
    (part,) = json.loads((tmp_path / "out.json").read_text())["parts"]
    assert part["name"] == "published" and part["cases"]["dynamic"]["products"] == 4.0


def test_several_presets_make_one_record(asked, tmp_path):
    assert main(["benchmark", "--preset", "small,fast", "--device", "cpu", "--json", str(tmp_path / "out.json")]) == 0
    small, fast = json.loads((tmp_path / "out.json").read_text())["parts"]
    assert list(small["cases"]) == ["static", "dynamic"] and set(fast["stages"]) == {"static", "dynamic"}
    assert set(fast["sweeps"]) == {"rays", "samples", "frames", "scenes", "classes"} and not small["sweeps"]
    assert "encode" in fast["cases"]


@pytest.mark.parametrize(("error", "said"), [
    (SemflowError("no memory"), "no memory"),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
     "there is not enough memory; take fewer --rays, --samples or --frames")])
def test_what_cannot_be_measured_is_noted_and_the_rest_goes_on(monkeypatch, tmp_path, capsys, error, said):
    def measured(settings, case):
        if case == "static":
            raise error
        return MEASURED

    monkeypatch.setattr(benchmark, "measure", measured)
    path = tmp_path / "out.json"
    assert main(["benchmark", "--preset", "small", "--device", "cpu", "--json", str(path)]) == 2
    (part,) = json.loads(path.read_text())["parts"]
    assert set(part["cases"]) == {"dynamic"} and f"not measured: static: {said}" in part["notes"]
    assert said in capsys.readouterr().err


def test_given_sizes_go_before_the_preset(asked):
    arguments = ["--preset", "small", "--rays", "64", "--width", "100", "--cases", "dynamic,encode", "--device", "cpu"]
    assert main(["benchmark", *arguments]) == 0
    assert [case for case, _ in asked] == ["dynamic", "encode"]
    settings = asked[0][1]
    assert (settings.config.static_stage.rays, settings.config.dynamic_stage.samples) == (64, 32)
    assert (settings.height, settings.width) == (135, 100) and not settings.config.train.recompute


def test_the_fast_form_is_measured_and_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmark, "measure", measure_here)
    sizes = ["--height", "16", "--width", "24", "--rays", "8", "--samples", "20", "--frames", "3", "--repeats", "1"]
    file = tmp_path / "figures.json"
    options = ["--threads", "1", "--device", "cpu", "--cases", "static,dynamic", "--json", str(file)]
    assert main(["benchmark", "--preset", "fast", *sizes, *options]) == 0
    (found,) = json.loads(file.read_text())["parts"]
    assert set(found["cases"]) == {"static", "dynamic"}
    for case in found["cases"].values():
        assert_measured(case)
    assert found["settings"]["config"]["model"]["encoding"] == "planes" and "static step" in capsys.readouterr().out


def test_a_configuration_file_speaks_for_itself(asked, tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("dynamic_stage.rays = 48\nencoder.kind = pixels\n")
    assert main(["benchmark", "--config", str(path), "--samples", "16", "--device", "cpu"]) == 0
    config = asked[0][1].config
    assert (config.dynamic_stage.rays, config.dynamic_stage.samples, config.encoder.kind) == (48, 16, "pixels")
    assert not config.train.recompute


@pytest.mark.parametrize("arguments, part", [
    (["--rays", "0"], "rays = 0: must be at least 2"),
    (["--frames", "2"], "frames = 2: must be at least 3"),
    (["--cases", "static,training"], "'training' is none of"),
    (["--config", "missing.txt"], "missing.txt"),
    (["--preset", "small,huge"], "'huge' is none of"),
    (["--preset", ""], "preset = '': name some of published, small, fast"),
    (["--cases", ","], "cases = ',': name some of static"),
    (["--preset", "small,fast", "--config", "configs/debug.txt"], "goes with one preset"),
    (["--minutes", "1,0"], "write times above 0"),
    (["--render-size", "480"], "WIDTHxHEIGHT"),
    (["--sweep", "rays=1"], "rays must be at least 2"),
    (["--read", "missing.json"], "missing.json: no such file"),
])
def test_wrong_options_are_one_line(asked, arguments, part, capsys):
    assert main(["benchmark", "--device", "cpu", *arguments]) == 2
    error = capsys.readouterr().err
    assert part in error and error.count("\n") == 1 and not asked


def test_an_existing_record_is_not_overwritten(asked, tmp_path, capsys):
    path = tmp_path / "out.json"
    path.write_text("kept")
    assert main(["benchmark", "--device", "cpu", "--json", str(path)]) == 2
    assert "the file exists" in capsys.readouterr().err and path.read_text() == "kept" and not asked
