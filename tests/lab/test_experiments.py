"""What the notebooks' Try it parts show, on small stages."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from conan_lib.data.corpus import INDEX
from conan_lib.data.decontaminate import EvaluationIndex
from conan_lib.data.records import write_table
from conan_lib.errors import UserError
from conan_lib.lab import negatives
from conan_lib.lab.mask import opened
from conan_lib.lab.text import cleaning
from conan_lib.lab.vectors import MODELS, PLACED_BY, model_in, neighbours, on_the_map
from conan_lib.lab.writing import continuation
from conan_lib.stages import open_stage
from conan_lib.training.mine import Pools
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


def test_the_star_is_where_the_nearest_texts_are(ready):
    stage = ready("mix")
    known = [(sentence(lang, verse), lang) for lang in ("de", "zh") for verse in range(10)]
    rows = []
    for arm, source in MODELS.items():
        model = model_in(stage.inputs[source].path / "model")
        vectors = model.encode([text for text, _ in known] + ["place3 name3"], normalize_embeddings=True)
        near = np.argsort(-(vectors[:-1] @ vectors[-1]))[:PLACED_BY]
        rows += [{"model": arm, "text": text, "lang": lang, "group": "0", "x": 3.0 * (n in near), "y": 4.0 * (n in near)}
                 for n, (text, lang) in enumerate(known)]  # fmt: skip
    with stage.work() as work:
        write_table(stage.path / "points.parquet", pa.Table.from_pylist(rows))
        work.commit({})
    for axis in on_the_map(stage, "place3 name3").axes:
        assert axis.collections[-1].get_offsets()[0].tolist() == pytest.approx([3, 4])


@pytest.mark.parametrize("mined, now, after", [
    ((0.3, 0.3, 0.3, 0.3), (0.9, 0.9, 0.9, 0.9), {2, 3}),  # below the floor: both leave at the first visit
    ((0.9, 0.9, 0.9, 0.9), (0.9, 0.9, 0.9, 0.9), {0, 1}),
    ((0.9, 0.9, 0.9, 0.9), (0.1, 0.9, 0.9, 0.9), {1, 2}),  # what has become easy leaves
    ((0.9, 0.9, 0.9, 0.9), (0.1, 0.1, 0.1, 0.1), {2, 3}),
])  # fmt: skip
def test_negatives_leave_by_the_rule(ready, monkeypatch, mined, now, after):
    stage = ready("supervised")
    finish(stage)
    section = stage.supervised.model_copy(update={"hard_negatives": 2})
    stage = ready("supervised", stage.params.model_copy(update={"supervised": section}))
    finish(stage)
    search = SimpleNamespace(queries=[SimpleNamespace(text="a query", pool="p")], texts=["no candidate", "a", "b", "c", "d"])
    pools = Pools(["p"], np.array([[1, 2, 3, 4, -1]]), np.array([[*mined, np.nan]]), search)
    vectors = torch.tensor([[1.0, 0.0], *([cosine, (1 - cosine**2) ** 0.5] for cosine in now)])
    monkeypatch.setattr(negatives, "load_pools", lambda stage: pools)
    monkeypatch.setattr(negatives, "model_in", lambda folder: SimpleNamespace(encode=lambda texts, **_: vectors))
    table = negatives.swaps(stage, "a query", 2).data
    assert table["text"].tolist() == ["a", "b", "c", "d"]
    assert set(table.index[table["first visit"] == "in use"]) == {0, 1}
    assert set(table.index[table["after 2"] == "in use"]) == after
    assert negatives.queries(stage, "QUERY") == ["a query"]
    with pytest.raises(UserError, match="no query holds 'snow'"):
        negatives.queries(stage, "snow")
