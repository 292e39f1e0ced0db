"""Checkpoints: exact round trips, and one clear line for every broken file."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import semflow.engine.checkpoint as checkpoint_module
from semflow.engine.checkpoint import (
    checkpoint_path, load_checkpoint, newest_checkpoint, prune_checkpoints, save_checkpoint,
)
from semflow.utils.errors import CheckpointError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "step-00000001.safetensors"


def round_trip(path, state):
    save_checkpoint(path, state)
    return load_checkpoint(path, "cpu")


def assert_same(first, second):
    assert type(first) is type(second)
    if isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype and first.shape == second.shape
        if first.dtype == torch.bfloat16:  # NumPy has no such type
            first, second = first.view(torch.int16), second.view(torch.int16)
        assert first.numpy(force=True).tobytes() == second.numpy(force=True).tobytes()  # NaN is equal to itself
    elif isinstance(first, dict):
        assert list(first) == list(second) and [type(key) for key in first] == [type(key) for key in second]
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for a, b in zip(first, second):
            assert_same(a, b)
    else:
        assert first == second or (math.isnan(first) and math.isnan(second))


class TestRoundTrip:
    def test_plain_values_keep_type_and_value(self, path):
        state = {
            "text": 'a "ü"\n', "int": -(2**70), "float": 0.1 + 0.2, "inf": math.inf, "nan": math.nan, "flag": True,
            "none": None, "list": [1, [2.0, ()]], "tuple": (1, "x", {}), 3: "int key", None: 1, True: 2, 1.5: 3,
            "tensor": {"dict": "looks like the file's own marks"}, "": "empty key", "empty": {}, "no items": [],
        }
        assert_same(state, round_trip(path, state))

    @pytest.mark.parametrize("dtype", [
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.uint8,
        torch.bool,
    ])
    def test_every_dtype_and_shape(self, path, dtype):
        values = torch.randn(3, 4).mul(5).to(dtype)
        state = {"matrix": values, "scalar": values[0, 0].clone(), "empty": values[:0], "empty2": values[:, :0]}
        assert_same(state, round_trip(path, state))

    def test_bits_of_nan_and_infinity_survive(self, path):
        state = {"x": torch.tensor([math.nan, math.inf, -math.inf, -0.0, 1e-45])}
        assert_same(state, round_trip(path, state))

    def test_equal_looking_names_do_not_collide(self, path):
        state = {"a.b": torch.tensor(1), "a": {"b": torch.tensor(2)}, 1: torch.tensor(3), "1": torch.tensor(4)}
        assert_same(state, round_trip(path, state))

    def test_views_are_saved_as_what_they_show(self, path):
        base = torch.arange(16.0).reshape(4, 4)
        state = {"base": base, "transposed": base.T, "row": base[1], "flat": base.view(-1),
                 "wide": base[0].expand(2, 4), "bits": base.view(torch.int32)}
        loaded = round_trip(path, state)
        for name in state:
            torch.testing.assert_close(loaded[name], state[name], rtol=0, atol=0)
        assert path.stat().st_size < 4096

    def test_tied_weights_are_stored_once_and_stay_tied(self, path):
        weight = nn.Parameter(torch.randn(64, 64))
        loaded = round_trip(path, {"encoder": weight, "decoder": weight, "view": weight.data})
        assert path.stat().st_size < 2 * weight.nbytes
        loaded["encoder"][0, 0] = 7.0
        assert loaded["decoder"][0, 0] == 7.0 and loaded["view"][0, 0] == 7.0
        assert type(loaded["encoder"]) is torch.Tensor

    def test_loaded_tensors_do_not_depend_on_the_file(self, path):
        loaded = round_trip(path, {"a": torch.ones(4), "b": torch.ones(4)})
        path.write_bytes(b"\x00" * path.stat().st_size)
        loaded["a"].zero_()
        assert loaded["b"].sum() == 4

    def test_training_goes_on_exactly(self, path):
        def make(seed):
            torch.manual_seed(seed)
            model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
            groups = [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[2].parameters()}]
            optimizer = torch.optim.Adam(groups)
            schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
            return model, optimizer, schedule, torch.Generator().manual_seed(seed)

        def step(model, optimizer, schedule, generator):
            optimizer.zero_grad()
            model(torch.randn(8, 3, generator=generator)).square().mean().backward()
            optimizer.step()
            schedule.step()

        first, second = make(0), make(1)
        for _ in range(3):
            step(*first)
        model, optimizer, schedule, generator = first
        save_checkpoint(path, {"model": model.state_dict(), "optimizer": optimizer.state_dict(),
                               "schedule": schedule.state_dict(), "generator": generator.get_state()})
        loaded = load_checkpoint(path)
        for part, name in zip(second, ("model", "optimizer", "schedule")):
            part.load_state_dict(loaded[name])
        second[3].set_state(loaded["generator"])
        for _ in range(3):
            step(*first)
            step(*second)
        assert_same(first[0].state_dict(), second[0].state_dict())
        assert_same(first[1].state_dict(), second[1].state_dict())

    @pytest.mark.parametrize("state, place", [
        ({"a": {"b": object()}}, "a.b"), ({"a": [1, {2, 3}]}, "a.1"), ({"a": {(1, 2): 3}}, "a"), ({"a": b"x"}, "a"),
    ])
    def test_what_cannot_be_saved_is_named_and_leaves_no_file(self, path, state, place):
        with pytest.raises(CheckpointError, match=f"^{place}:"):
            save_checkpoint(path, state)
        assert not list(path.parent.iterdir())


class TestBrokenFiles:
    def broken(self, path) -> str:
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: ") and "\n" not in message
        return message

    def test_missing(self, path):
        assert "no such checkpoint" in self.broken(path)
        assert "no such checkpoint" in self.broken(path.parent)

    @pytest.mark.parametrize("keep", [0, 4, 8, 100, -1])
    def test_truncated(self, path, keep):
        save_checkpoint(path, {"a": torch.arange(100), "b": 1})
        content = path.read_bytes()
        path.write_bytes(content[:keep])
        assert "truncated or not a checkpoint" in self.broken(path)

    def test_not_safetensors(self, path):
        torch.save({"a": torch.ones(3)}, path)
        assert "not a checkpoint" in self.broken(path)

    @pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}])
    def test_safetensors_of_another_kind(self, path, metadata):
        save_file({"a": torch.ones(3)}, path, metadata=metadata)
        assert "not a semflow checkpoint" in self.broken(path)

    def test_another_version(self, path, monkeypatch):
        monkeypatch.setattr(checkpoint_module, "VERSION", "99")
        save_checkpoint(path, {"a": 1})
        monkeypatch.undo()
        assert "version 99" in self.broken(path)

    @pytest.mark.parametrize("structure", [
        None, "{", '{"dict": [["a", {"tensor": "gone"}]]}', '{"dict": [["a"]]}', '{"dict": 1, "list": 2}',
        '{"dict": 5}', '{"odd": [1]}',
    ])
    def test_damaged_structure(self, path, structure):
        metadata = {"format": "semflow-checkpoint", "version": "1"}
        if structure is not None:
            metadata["structure"] = structure
        save_file({"a": torch.ones(3)}, path, metadata=metadata)
        assert "use an older checkpoint" in self.broken(path)

    def test_nothing_is_unpickled(self, path):
        save_checkpoint(path, {"a": torch.ones(2), "b": [1]})
        header = path.read_bytes()
        length = int.from_bytes(header[:8], "little")
        assert json.loads(header[8:8 + length])["__metadata__"]["format"] == "semflow-checkpoint"


class TestFolder:
    def test_a_failing_write_leaves_the_old_checkpoint(self, path, monkeypatch):
        save_checkpoint(path, {"step": 1, "x": torch.ones(2)})

        def fail(tensors, name, metadata):
            name.write_bytes(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(checkpoint_module, "save_file", fail)
        with pytest.raises(OSError):
            save_checkpoint(path, {"step": 2})
        assert load_checkpoint(path)["step"] == 1 and len(list(path.parent.iterdir())) == 1

    def test_newest_goes_by_step_not_by_date_and_ignores_other_files(self, tmp_path):
        assert newest_checkpoint(tmp_path) is None and newest_checkpoint(tmp_path / "gone") is None
        for step in (123456789, 20, 3):
            save_checkpoint(checkpoint_path(tmp_path, step), {"step": step})
        for name in ("step-999999999999.safetensors.bak", "step-x.safetensors", ".step-9.ab.partial.safetensors"):
            (tmp_path / name).write_text("")
        assert newest_checkpoint(tmp_path) == checkpoint_path(tmp_path, 123456789)

    def test_prune_keeps_the_newest_and_clears_leftovers(self, tmp_path):
        for step in (5, 100, 20):
            save_checkpoint(checkpoint_path(tmp_path, step), {"step": step})
        leftover = tmp_path / ".step-00000100.abcd1234.partial.safetensors"
        for other in (leftover, tmp_path / "notes.txt"):
            other.write_text("")
        assert prune_checkpoints(tmp_path, 2) == [checkpoint_path(tmp_path, 5), leftover]
        assert sorted(p.name for p in tmp_path.iterdir()) == [
            "notes.txt", "step-00000020.safetensors", "step-00000100.safetensors"]
        with pytest.raises(ValueError):
            prune_checkpoints(tmp_path, 0)
