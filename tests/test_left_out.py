"""One place says which stages are no part of a run: what the parameters cannot feed is left out, with the reason."""

import pytest

from conan_lib.params import Params
from conan_lib.params.evaluation import PROBED
from conan_lib.params.training import SupervisedParams
from conan_lib.stages import left_out
from conan_lib.topics.limits.sentences import SENTENCES
from conan_lib.training.embedder import row_prompts

PAIRS = {"from": "pairs.jsonl", "task": "retrieval", "lang": "en"}
CLR = {"from": "clr.jsonl", "task": "clr", "heldout": 0.1}


def params(mix: dict[str, float], *rows: dict, languages: tuple[str, ...] = ("en",)) -> Params:
    sizes = dict.fromkeys(mix, 4)
    data = {"languages": languages, "sets": rows} if rows else {}
    return Params.model_validate(
        {"tier": "own", "data": data, "supervised": {"mix": mix, "task_batch_size": sizes}, "mixing": {"texts": "heldout"}}
    )


def test_packaged_text_leaves_out_nothing_but_the_start():
    assert set(left_out(params({"retrieval": 1, "clr": 1}))) == {"start"}


@pytest.mark.parametrize(
    ("mix", "rows", "why"),
    [
        ({"retrieval": 1}, [PAIRS], "supervised.mix has no clr"),
        ({"clr": 1}, [CLR], "supervised.mix has clr alone"),
        ({"retrieval": 1, "clr": 1}, [PAIRS, CLR | {"heldout": 0.0}], "needs aligned texts in two languages"),
    ],
)
def test_mixing_needs_two_arms_and_aligned_texts(mix, rows, why):
    found = left_out(params(mix, *rows))
    assert why in found["mix"] and why in found["supervised_no_clr"] and "mkqa" in found


def test_an_arm_without_clr_needs_what_sts_balances():
    own = params({"clr": 1, "sts": 1})
    balanced = own.model_copy(update={"supervised": own.supervised.model_copy(update={"balance": 0.8})})
    assert "mix" not in left_out(own) and "nothing is left that sts balances" in left_out(balanced)["supervised_no_clr"]


def test_held_out_rows_of_a_clr_set_feed_mixing():
    assert set(left_out(params({"retrieval": 1, "clr": 1}, PAIRS, CLR))) == {"start", "mkqa"}


def test_probes_are_part_where_a_language_has_sentences():
    assert set(PROBED) == set(SENTENCES["road"])
    assert "probes" in left_out(params({"retrieval": 1}, PAIRS | {"lang": "nl"}, languages=("nl",)))


def test_a_prompt_that_all_rows_of_a_type_share_is_saved_and_others_are_not():
    def rows(*prompts: str) -> list[dict]:
        return [{"anchor": "a", "positive": "b", "prompt": prompt} for prompt in prompts]

    options = SupervisedParams()
    assert row_prompts({"retrieval": rows("Find: ", "Find: "), "sts": rows("Compare: ")}, options) == {
        "query": "Find: ",
        "STS": "Compare: ",
    }
    assert row_prompts({"retrieval": rows("Find: ", "Seek: "), "clr": rows("Find: ")}, options) == {}
    assert row_prompts({"retrieval": rows("Find: "), "clr": rows("")}, options) == {}
