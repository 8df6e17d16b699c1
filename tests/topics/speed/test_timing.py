"""Systems take turns, each as often as the others; rates and ratios are those of a clock that the test winds."""

import pytest

from conan_lib.topics.speed import timing


def test_turns_rates_and_ratios_with_a_clock_of_our_own(monkeypatch):
    now, called = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def system(name: str, seconds: float):
        def call():
            called.append(name)
            now[0] += seconds * (1 + called.count(name))  # slower from round to round

        return call

    seconds = timing.take_turns({"ours": system("ours", 0.5), "peer": system("peer", 2.0)}, 4, "cpu", seed=0)
    assert sorted(called) == ["ours"] * 4 + ["peer"] * 4
    assert all(set(called[turn : turn + 2]) == {"ours", "peer"} for turn in range(0, 8, 2))
    assert seconds == {"ours": pytest.approx([1.0, 1.5, 2.0, 2.5]), "peer": pytest.approx([4.0, 6.0, 8.0, 10.0])}
    rows = timing.rates(seconds, {"ours": 30, "peer": 12}, "ours")
    assert (rows["ours"]["rate"], rows["ours"]["low"], rows["ours"]["high"]) == pytest.approx((17.5, 12.0, 30.0))
    assert [rows["peer"][end] for end in ("ratio", "ratio_low", "ratio_high")] == pytest.approx([0.1] * 3) and rows["peer"]["repeats"] == 4


@pytest.mark.parametrize(("an_item", "most", "fits"), [(1.0, 512, 1), (0.01, 512, 32), (1e-6, 512, 512), (1e-6, 500, 500)])
def test_a_call_has_as_many_items_as_fit(monkeypatch, an_item, most, fits):
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def call(n: int):
        now[0] += n * an_item

    assert timing.fitting(call, most, 0.5, "cpu") == fits
