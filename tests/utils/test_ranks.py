"""What ranks exchange, in two processes and in one."""

import os
import signal

import pytest
import torch
from several_ranks import run_ranks

from semflow.encoders.positional import PlaneEncoding
from semflow.utils import ranks as module
from semflow.utils.errors import OtherRankFailed, RankError
from semflow.utils.ranks import (
    any_rank,
    average_gradients,
    from_first_rank,
    gather_parts,
    gather_rows,
    joined,
    own_part,
    own_rows,
    rank,
    ranks,
    sum_over_ranks,
)

ROWS = torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0])


def refuse():
    raise RankError("no")


def exchange(folder) -> dict:
    """Every exchange once; `fails` holds what an error of rank 0 became."""
    torch.manual_seed(0)
    own = ROWS[own_rows()].clone().requires_grad_()
    whole = gather_rows(own, len(ROWS))
    (whole * whole.flip(0) * torch.arange(5.0)).sum().backward()
    used, unused = (torch.nn.Parameter(torch.zeros(2, 2)) for _ in range(2))
    (used.sum() * (rank() + 1)).backward()
    means = average_gradients([used, unused], torch.tensor([[float(rank())], [float("nan") if rank() else 1.0]]))
    with pytest.raises(RankError) as caught:
        from_first_rank(refuse)
    return {
        "rank": rank(), "ranks": ranks(), "whole": whole.detach(), "gradient": own.grad, "used": used.grad,
        "unused": unused.grad, "rows": own_rows(1), "parts": gather_parts(list(own_part("abcde"))),
        "any": (any_rank(rank() == 1), any_rank(False)), "sum": sum_over_ranks(torch.tensor([rank(), 10])),
        "mean": means,
        "variation": PlaneEncoding(torch.tensor([[[-1.0] * 4, [1.0] * 4]]), 1, (3,), (2,)).variation(0).detach(),
        "first": from_first_rank(lambda: f"rank {rank()}"), "fails": str(caught.value),
    }


def test_a_process_alone_gets_back_what_it_gave(tmp_path):
    found = exchange(tmp_path)
    assert (found["rank"], found["ranks"], found["any"]) == (0, 1, (False, False))
    assert torch.equal(found["whole"], ROWS) and torch.equal(found["used"], torch.ones(2, 2)) and found["unused"] is None
    assert found["parts"] == list("abcde") and found["sum"].tolist() == [0, 10]
    assert found["mean"].tolist() == [[0.0], [1.0]] and found["fails"] == "no"


def test_two_ranks_find_what_one_finds(tmp_path):
    alone, found = exchange(tmp_path), run_ranks(exchange, tmp_path)
    for number, other in enumerate(found):
        assert (other["rank"], other["ranks"]) == (number, 2)
        assert torch.equal(other["whole"], ROWS)
        # the mean over the ranks of gradients that reach one rank's rows alone: twice as much for each
        assert torch.equal(other["gradient"], 2 * alone["gradient"][number::2])
        assert torch.equal(other["used"], torch.full((2, 2), 1.5)) and other["unused"] is None
        assert other["parts"] == list("abcde") and other["any"] == (True, False)
        assert other["sum"].tolist() == [1, 20]
        assert float(other["mean"][0]) == 0.5 and bool(other["mean"][1].isnan())
        assert other["first"] == "rank 0" and other["fails"] == "no"
    # one channel: rank 1 has none
    assert (found[0]["variation"] + found[1]["variation"]) / 2 == alone["variation"] and found[1]["variation"] == 0
    assert [list("bcde")[other["rows"]] for other in found] == [["c", "e"], ["b", "d"]]


def die(folder):
    """Rank 1 is killed while rank 0 waits for it."""
    if rank():
        os.kill(os.getpid(), signal.SIGKILL)
    any_rank(True)


@pytest.mark.slow
def test_a_killed_process_is_one_clear_error_on_the_others(tmp_path):
    with pytest.raises(Exception, match="SIGKILL|another process of this run has ended"):
        run_ranks(die, tmp_path)


def test_only_the_first_that_fails_keeps_its_error(monkeypatch):
    """Both fail; the store that they share counts."""
    store = torch.distributed.HashStore()
    monkeypatch.setattr(module.dist, "rendezvous", lambda *args, **options: iter([(store, 0, 1)]))
    monkeypatch.setattr(module.dist, "init_process_group", lambda *args, **options: None)
    with pytest.raises(ZeroDivisionError), joined():
        1 / 0
    with pytest.raises(OtherRankFailed), joined():
        1 / 0
