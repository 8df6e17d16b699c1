"""What the notebooks' Try it parts show, on small stages."""

import numpy as np
import pytest
import torch

from conan_lib.data.corpus import INDEX
from conan_lib.data.decontaminate import EvaluationIndex
from conan_lib.errors import UserError
from conan_lib.lab.mask import opened
from conan_lib.lab.text import cleaning
from conan_lib.lab.vectors import neighbours
from conan_lib.lab.writing import continuation
from conan_lib.stages import open_stage
from tests.small_stages import finish, sentence

PROSE = "The snow fell quietly on the roofs of the town, and nobody was out in the streets any more that night."
HELD_OUT = "Yahweh has torn the kingdom of Israel from you this day, and has given it to a neighbor of yours."


@pytest.fixture(scope="module")
def corpus(ready):
    stage = ready("corpus")
    finish(stage)
    index = EvaluationIndex(13)
    index.add([(HELD_OUT, "en")])
    index.save(stage.path / INDEX)
    return stage


def dropped(styler) -> list[str]:
    return [row["step"] for row in styler.data.to_dict("records") if row["verdict"] == "dropped"]


@pytest.mark.parametrize("text, language, step", [
    (PROSE, "en", []),
    (PROSE, "de", ["language"]),
    ("a" * 50, "en", ["quality"]),
    (HELD_OUT, "en", ["decontaminated"]),
    (f"{sentence('en', 103)} {sentence('en', 104)}", "en", []),
])  # fmt: skip
def test_the_first_step_that_refuses_a_text_is_named(corpus, text, language, step):
    assert dropped(cleaning(corpus, text, language)) == step


def test_a_copy_of_a_document_is_an_exact_duplicate(corpus, ready):
    short = corpus.params.model_copy(update={"data": corpus.data.model_copy(update={"min_chars": 20})})
    stage = ready("corpus", short)
    finish(stage)
    EvaluationIndex(13).save(stage.path / INDEX)
    assert dropped(cleaning(stage, sentence("en", 103), "en")) == ["exact duplicates"]


def test_the_last_token_never_moves_in_one_layer_and_none_does_at_alpha_0(ready):
    stage = ready("weak")
    widths = {(alpha, ratio): [bar.get_width() for bar in opened(stage, sentence("en", 1), alpha, ratio).axes[1].patches]
              for alpha, ratio in ((0.0, "l/i"), (0.1, "l/i"), (0.1, "uniform"))}  # fmt: skip
    assert max(widths[0.0, "l/i"]) == 0
    assert widths[0.1, "l/i"][-1] == 0 < widths[0.1, "uniform"][0] < widths[0.1, "l/i"][0]


def test_a_verse_is_its_own_nearest_neighbour_at_every_cut(ready):
    stage = ready("evaluate")
    for channels in (16, 4):
        first = neighbours(stage, sentence("de", 5), channels).data.iloc[0]
        assert first["text"] == sentence("de", 5) and first["cosine"] == pytest.approx(1)
    whole = neighbours(stage, "nothing like it", 16).data
    assert whole["with the whole vector too"].all() and np.isfinite(whole["cosine"].astype(float)).all()


def test_bits_per_byte_are_the_mean_over_the_predicted_bytes(ready):
    stage = ready("sft").inputs["pretrain"]
    text = sentence("en", 2)
    row = continuation(stage, text, 3).data.set_index("model").loc["after"]
    from conan_lib.lab.writing import _loaded
    from conan_lib.model.tokenizer import frame, token_bytes

    model, tokenizer = _loaded(stage.path / "model", stage.path / "model")
    ids = torch.tensor([[*frame(tokenizer)[0], *tokenizer.encode(text, add_special_tokens=False)]])
    logits = model(ids).logits[0, :-1].log_softmax(-1)
    bits = -logits.gather(1, ids[0, 1:, None]).sum().item() / np.log(2)
    assert row["bits per byte"] == pytest.approx(bits / token_bytes(tokenizer)[ids[0, 1:]].sum(), rel=1e-4)


def test_a_stage_that_has_not_been_computed_is_named_with_its_notebook(params, tmp_path):
    elsewhere = params.model_copy(update={"runtime": params.runtime.model_copy(update={"artefacts": str(tmp_path)})})
    for function, stage, notebook in (
        (continuation, "pretrain", "03_pretrain"),
        (opened, "weak", "04_sft"),
        (neighbours, "evaluate", "01_data"),
    ):
        with pytest.raises(UserError, match=f"has not been computed yet: open notebooks/{notebook}.ipynb"):
            function(open_stage(stage, elsewhere), "text")
    assert list(tmp_path.iterdir()) == []
