"""The hub: without a network one clear line comes at once, whatever the client raises, and nothing is written; a row becomes a Document by
the table's fields."""

import os

import pytest
from huggingface_hub import close_session, constants, errors
from smoke_data import smoke_params

from conan_lib.data import hub
from conan_lib.data.build import build_corpus, build_heldout, build_sets
from conan_lib.data.catalogue import catalogue
from conan_lib.data.records import read
from conan_lib.data.sources.bible import SCRIPTURE, check_languages
from conan_lib.data.sources.document import Document, Source
from conan_lib.errors import UserError
from conan_lib.params.data import DataParams
from conan_lib.stages import open_stage


def test_switched_off_hub_is_one_line_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    stage = open_stage("corpus", smoke_params(tmp_path, source="hub"))
    with pytest.raises(UserError, match=r"data.source: hub, but HF_HUB_OFFLINE is set"):
        build_corpus(stage)
    assert stage.status == "new"


def test_unreachable_hub_is_one_line_at_once(tmp_path, monkeypatch):
    """The hub's own client, and nobody behind the door."""
    for switch in hub.SWITCHES:
        monkeypatch.delenv(switch, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    close_session()  # one that an earlier test opened has the proxies that there were then
    stage = open_stage("corpus", smoke_params(tmp_path, source="hub"))
    with pytest.raises(UserError, match=r"http://127.0.0.1:9 cannot be reached \(Connect\w*Error\): connect, or use"):
        build_corpus(stage)
    assert stage.status == "new"


OUT_OF_REACH = [errors.OfflineModeIsEnabled("off"), errors.LocalEntryNotFoundError("not cached"), errors.HTTPError("reset"), TimeoutError()]


@pytest.mark.parametrize("error", OUT_OF_REACH, ids=lambda error: type(error).__name__)
def test_whatever_the_client_raises_is_one_line(monkeypatch, error):
    import datasets

    def fail(*args, **kwargs):
        raise error

    for switch in hub.SWITCHES:
        monkeypatch.delenv(switch, raising=False)
    monkeypatch.setattr(hub, "get_session", fail)
    with pytest.raises(UserError, match=rf"^tasks.suite: X, but http.* cannot be reached \({type(error).__name__}\): connect, or do Y$"):
        hub.reach("tasks.suite: X", "do Y")
    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(UserError, match="hub set mteb/emotion"):
        next(hub._read(next(found for found in hub.HUB_SETS if found.name == "emotion"), 1, "en", 0))


def test_sources_stand_for_the_table(monkeypatch):
    monkeypatch.setattr(hub, "reach", lambda *given: None)
    sources = hub.hub_sources(DataParams())
    assert [source.name for source in sources] == [found.name for found in hub.HUB_SETS]
    assert len({source.name for source in sources}) == len(sources)
    assert all(source.languages and source.edition for source in sources)


def test_the_list_of_sources_asks_nobody(monkeypatch):
    monkeypatch.setattr(hub, "get_session", lambda: pytest.fail("the hub was asked"))
    names = [row["source"] for row in catalogue(DataParams(source="hub", languages=("en", "th")))]
    assert set(names) == {found.name for found in hub.HUB_SETS if "en" in found.languages} | set(SCRIPTURE)


def test_stream_becomes_documents(monkeypatch):
    """The set is read from memory: datasets' own streaming type, no network."""
    import datasets

    rows = [{"query": f"question {i}", "positive": f"answer {i}", "negative": "no"} for i in range(20)]
    asked = []

    def load_dataset(path, config, split, streaming):
        asked.append((path, config, split, streaming))
        return datasets.Dataset.from_list(rows).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    found = next(found for found in hub.HUB_SETS if found.name == "msmarco")
    documents = list(hub._read(found, 5, "en", 0))
    assert asked == [("sentence-transformers/msmarco-bm25", "triplet", "train", True)]
    assert len(documents) == 5 and len({d.id for d in documents}) == 5
    assert all(d.title.removeprefix("question ") == d.text.removeprefix("answer ") and d.kind == "question" for d in documents)
    assert documents == list(hub._read(found, 5, "en", 0))


def test_changed_fields_are_named():
    found = next(found for found in hub.HUB_SETS if found.name == "squad")
    with pytest.raises(UserError, match="hub set sentence-transformers/squad: no field answer in its rows; they have question, context"):
        hub.document(found, {"question": "q", "context": "c"}, "en", 0)


def test_languages_without_scripture_are_built_from_what_the_hub_has(monkeypatch, tmp_path):
    """Ten languages of params/paper.yaml have no verses here: their text comes from the hub, and what is aligned leaves them out."""
    swedish = [Document(f"web/{n}", f"{n} fåglar.", "sv", "web", "question", title=f"Hur många fåglar är {n}?") for n in range(40)]
    source = Source("web", "datasets", ("sv",), lambda lang, seed: iter(swedish), role="record")
    monkeypatch.setattr(hub, "hub_sources", lambda params: (source,))
    params = smoke_params(tmp_path, languages=["en", "de", "sv"], source="hub", source_documents=None)
    built = {"documents": build_corpus, "clr": build_sets, "mixing": build_heldout}
    stages = [build(open_stage(build.__name__.removeprefix("build_"), params)) for build in built.values()]
    rows = {name: read(stage.path / f"{name}.parquet") for name, stage in zip(built, stages, strict=True)}
    assert {row["lang"] for row in rows["documents"]} == {"en", "de", "sv"}
    assert {row["lang"] for row in rows["clr"]} == {"de"} and {row["lang"] for row in rows["mixing"]} == {"en", "de"}
    with pytest.raises(UserError, match="no embedded text in 'sv'"):
        build_corpus(open_stage("corpus", smoke_params(tmp_path, languages=["en", "de", "sv"])))
    with pytest.raises(UserError, match="no embedded text in 'sv'"):
        check_languages(smoke_params(tmp_path, languages=["sv", "en"], source="hub").data)
