"""Pins: which slot takes which candidate and when; shared pools average; exhaustion keeps the negative and
is counted; every rule equals a plain Python model of it over many batches, drawn ahead or not; a resumed pool goes on identically; the
margin's guard by hand; re-mined pools start again from the new candidates; a discarded batch is an update that scores nothing."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conan_lib.errors import UserError
from conan_lib.negatives import DhnmOptions, NegativePool, suspected

ids = torch.tensor


def pool(pools=3, candidates=8, n=2, **params):
    return NegativePool(torch.arange(pools * candidates).view(pools, candidates) + 100, n, DhnmOptions(**params))


def visit(negatives, pool_ids, scores):
    """One batch: what was drawn, and the swaps."""
    return negatives.draw(ids(pool_ids)).tolist(), negatives.update(ids(pool_ids), torch.tensor(scores))


@pytest.mark.equation("dhnm_margin")
def test_the_margin_replaces_what_scores_as_a_positive_does():
    assert suspected(torch.tensor([[0.9, 0.75, 0.5]]), torch.tensor([0.8]), 0.1).tolist() == [[True, True, False]]
    scores, positive = torch.tensor([[0.9, 0.6], [0.9, 0.6]]), torch.tensor([0.8, 0.9])
    swaps = {}
    for rule in ("v2", "v1", "static", "random"):
        negatives = pool(rule=rule, margin=0.1)
        negatives.draw(ids([0, 1]))
        swaps[rule] = negatives.update(ids([0, 1]), scores, positive)  # above .7 and above .8: slot 0 of both
    assert swaps == {"v2": 2, "v1": 2, "static": 0, "random": 0}
    without = pool()
    without.draw(ids([0, 1]))
    assert without.update(ids([0, 1]), scores, positive) == 0


@pytest.mark.equation("dhnm_margin")
def test_the_margin_takes_the_means_of_a_shared_pool_and_no_score_of_what_has_left():
    negatives = pool(margin=0.0)
    negatives.draw(ids([0, 0]))
    negatives.draw(ids([0]))  # drawn ahead: still the old negatives
    assert negatives.update(ids([0, 0]), torch.tensor([[0.9, 0.9], [0.9, 0.7]]), torch.tensor([0.8, 0.9])) == 1  # .9, .8 against .85
    assert negatives.update(ids([0]), torch.tensor([[0.95, 0.78]]), torch.tensor([0.9])) == 0  # .95 is the score of the one that has left
    assert negatives.draw(ids([0])).tolist() == [[102, 101]]


def test_remined_pools_start_again_from_the_new_candidates():
    negatives = pool(rule="remined", remine_interval=5)
    assert visit(negatives, [0], [[0.1, 0.1]])[1] == 0  # no score replaces anything
    fresh = negatives.candidates.clone()
    fresh[0] = fresh[0].flip(0)  # 107 106 ...
    fresh[1, 0] = 99
    assert negatives.refresh(fresh) == 3  # both of pool 0, one of pool 1
    assert negatives.initial.isnan().all() and negatives.log()["swaps"] == 3
    resumed = pool(rule="remined", remine_interval=5)
    resumed.load_state_dict(negatives.state_dict())
    for either in (negatives, resumed):
        assert either.draw(ids([0, 1, 2])).tolist() == [[107, 106], [99, 109], [116, 117]]
    with pytest.raises(RuntimeError, match="drawn ahead"):
        resumed.refresh(fresh)


@pytest.mark.equation("dhnm_v2")
def test_a_swap_by_hand():
    negatives = pool()
    assert visit(negatives, [0, 1], [[0.8, 0.3], [0.8, 0.9]]) == ([[100, 101], [108, 109]], 1)  # 101 came in below 0.4
    assert visit(negatives, [2], [[0.9, 0.9]]) == ([[116, 117]], 0)
    assert visit(negatives, [0], [[0.6, 0.5]]) == ([[100, 102]], 1)  # 100 fell from 0.8 to 0.6; 0.5 is the new slot's S_0
    assert visit(negatives, [2], [[0.9, 0.9]]) == ([[116, 117]], 0)
    assert negatives.draw(ids([0])).tolist() == [[103, 102]] and negatives.swapped_in(ids([0])).tolist() == [[True, True]]
    assert negatives.update(ids([0]), torch.tensor([[0.5, 0.5]])) == 0
    assert negatives.log()["swaps"] == 2
    negatives.draw(ids([1]))
    assert negatives.swapped_in([1]).tolist() == [[False, False]]
    with pytest.raises(UserError, match="not those of the batch drawn"):
        negatives.swapped_in([0])


def test_a_batch_drawn_ahead_is_scored_as_what_it_held():
    """A draw before the last update holds the old negative; its score must not become the S_0 of the new one."""
    negatives = pool(pools=1)
    negatives.draw(ids([0]))
    ahead = negatives.draw(ids([0]))
    assert negatives.update(ids([0]), torch.tensor([[0.1, 0.9]])) == 1  # 100 leaves
    assert ahead.tolist() == [[100, 101]]
    assert negatives.draw(ids([0])).tolist() == [[102, 101]]
    assert negatives.update(ids([0]), torch.tensor([[0.1, 0.9]])) == 0  # 100's score, not 102's
    assert negatives.update(ids([0]), torch.tensor([[0.9, 0.9]])) == 0
    assert negatives.initial.tolist() == [[pytest.approx(0.9), pytest.approx(0.9)]]


def test_anchors_that_share_a_pool_are_averaged():
    negatives = pool()
    # means .5 and .35: the second slot leaves, although one of the anchors scored it .6
    drawn, swaps = visit(negatives, [1, 1], [[0.4, 0.1], [0.6, 0.6]])
    assert drawn == [[108, 109], [108, 109]] and swaps == 1
    torch.testing.assert_close(negatives.initial[1, 0], torch.tensor(0.5))


def test_an_exhausted_pool_keeps_its_negatives_and_is_counted():
    negatives = NegativePool(torch.tensor([[1, 2, 3, -1], [4, 5, 6, 7]]), 2)
    low = [[0.1, 0.1], [0.9, 0.9]]
    assert visit(negatives, [0, 1], low)[1] == 1  # one candidate is left for two slots
    assert negatives.log()["exhausted"] == 0.5
    visit(negatives, [1], [[0.9, 0.9]])
    assert visit(negatives, [0, 1], low) == ([[3, 2], [4, 5]], 0)
    assert visit(negatives, [0, 1], low)[0][0] == [3, 2]


@pytest.mark.equation("dhnm_v1")
def test_v1_looks_at_every_pool_at_its_interval_alone():
    negatives = pool(rule="v1", v1_interval=3)
    assert visit(negatives, [0], [[0.9, 0.2]])[1] == 0
    assert visit(negatives, [0], [[0.5, 0.2]])[1] == 0
    assert visit(negatives, [1], [[0.9, 0.9]])[1] == 1  # third update: pool 0's first slot fell, though pool 1 was scored
    visit(negatives, [1], [[0.9, 0.9]])
    assert visit(negatives, [0], [[0.9, 0.2]])[0] == [[102, 101]]


def test_static_never_replaces_and_random_draws_anew_from_the_seed():
    assert [visit(pool(rule="static"), [0], [[0.0, 0.0]]) for _ in range(3)] == [([[100, 101]], 0)] * 3
    draws = [
        [visit(negatives, [0, 2, 0], [[0.0, 0.0]] * 3)[0] for _ in range(20)] for negatives in (pool(rule="random"), pool(rule="random"))
    ]
    assert draws[0] == draws[1]
    assert len({str(batch) for batch in draws[0]}) > 10
    assert all(batch[0] == batch[2] and len(set(batch[0])) == 2 for batch in draws[0])


def plain_v2(candidates, n, batches, skipped, p):
    """Eq. 6 with dictionaries: what each batch holds when swaps act from the next batch but one, and `skipped` batches score nothing."""
    shown = [list(row[:n]) for row in candidates]
    unused, s0, pending, held = [n] * len(candidates), {}, [], []
    for m, (pool_ids, scores) in enumerate(batches):
        for at, pool_id, slot, new in [x for x in pending if x[0] + 2 == m]:
            shown[pool_id][slot] = new
            pending.remove((at, pool_id, slot, new))
        held.append([list(shown[i]) for i in pool_ids])
        if m in skipped:
            continue
        waiting = {(pool_id, slot) for _, pool_id, slot, _ in pending}
        for pool_id in sorted(set(pool_ids)):
            rows = [score for i, score in zip(pool_ids, scores, strict=True) if i == pool_id]
            for slot in range(n):
                if (pool_id, slot) in waiting:
                    continue
                now = sum(row[slot] for row in rows) / len(rows)
                first = s0.setdefault((pool_id, slot), now)
                if (first < p.floor or (p.ratio * now < first and now < p.ceiling)) and unused[pool_id] < len(candidates[pool_id]):
                    pending.append((m, pool_id, slot, candidates[pool_id][unused[pool_id]]))
                    unused[pool_id] += 1
                    del s0[pool_id, slot]
    return held


@pytest.mark.equation("dhnm_v2")
@settings(max_examples=40, deadline=None)
@given(
    batches=st.lists(
        st.lists(
            st.tuples(st.integers(0, 2), st.lists(st.sampled_from([0.25, 0.5, 0.625, 0.75, 1.0]), min_size=2, max_size=2)),
            min_size=1, max_size=4,
        ),
        min_size=1, max_size=12,
    ),
    skipped=st.sets(st.integers(0, 11), max_size=3),
    ahead=st.booleans(),
    killed_after=st.integers(0, 12),
)  # fmt: skip
def test_equals_a_plain_model_drawn_ahead_or_not_and_killed_anywhere(batches, skipped, ahead, killed_after):
    batches = [([i for i, _ in batch], [score for _, score in batch]) for batch in batches]
    negatives = pool(candidates=5)
    held = []
    for m, (pool_ids, scores) in enumerate(batches):
        if len(held) == m:
            held.append(negatives.draw(ids(pool_ids)).tolist())
        if ahead and m + 1 < len(batches):
            held.append(negatives.draw(ids(batches[m + 1][0])).tolist())
        if m in skipped:
            assert negatives.discard(ids(pool_ids)) == 0
        else:
            negatives.update(ids(pool_ids), torch.tensor(scores))
        if m == killed_after:  # the checkpoint is taken, what was drawn ahead is lost
            state, negatives = negatives.state_dict(), pool(candidates=5)
            negatives.load_state_dict(state)
            held = held[: m + 1]
    assert held == plain_v2(pool(candidates=5).candidates.tolist(), 2, batches, skipped, DhnmOptions())


def test_log_is_the_mean_since_the_last_call():
    negatives = pool()
    visit(negatives, [0, 1], [[0.5, 0.7], [0.9, 0.9]])
    assert negatives.log()["mean_score"] == pytest.approx(0.75)
    visit(negatives, [0], [[0.5, 0.6]])
    assert negatives.log()["mean_score"] == pytest.approx(0.55)
    assert math.isnan(negatives.log()["mean_score"])


def test_a_skipped_batch_ends_and_nothing_is_scored():
    negatives = pool()
    first, ahead = negatives.draw(ids([0, 1])), negatives.draw(ids([0]))
    before = negatives.state_dict()
    assert negatives.discard(ids([0, 1])) == 0
    assert str(negatives.state_dict()) == str(before | {"updates": 1})
    assert negatives.update(ids([0]), torch.tensor([[0.1, 0.9]])) == 1 and ahead.tolist() == first[:1].tolist()
    assert negatives.draw(ids([0])).tolist() == [[100, 101]] and negatives.discard(ids([0])) == 0
    assert negatives.draw(ids([0])).tolist() == [[102, 101]]


def test_a_batch_drawn_ahead_of_a_skipped_one_keeps_its_number():
    """It holds the new negative already: were it renumbered, its score would be taken for the old one's."""
    negatives = pool(pools=1)
    assert visit(negatives, [0], [[0.1, 0.9]])[1] == 1
    negatives.draw(ids([0]))
    assert negatives.draw(ids([0])).tolist() == [[102, 101]]
    negatives.discard(ids([0]))
    negatives.update(ids([0]), [[0.8, 0.9]])
    assert negatives.initial.tolist() == [[pytest.approx(0.8), pytest.approx(0.9)]]


def test_v1_looks_at_its_interval_though_that_batch_is_skipped_and_random_goes_on_with_the_next_numbers():
    negatives = pool(rule="v1", v1_interval=3)
    for scores in ([[0.9, 0.2]], [[0.5, 0.2]]):
        visit(negatives, [0], scores)
    negatives.draw(ids([1]))
    assert negatives.discard(ids([1])) == 1
    one, other = pool(rule="random"), pool(rule="random")
    one.draw(ids([0])), other.draw(ids([0]))
    one.discard(ids([0])), other.update(ids([0]), torch.zeros(1, 2))
    assert one.draw(ids([2])).tolist() == other.draw(ids([2])).tolist()
