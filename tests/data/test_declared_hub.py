"""Sets of the hub: streamed at one commit, in a seeded order, no further than asked; what the hub's clients raise is one line."""

import os

import datasets
import pytest
from huggingface_hub import close_session, constants

from conan_lib.data.catalogue import catalogue, check_sets
from conan_lib.data.clean import Funnel
from conan_lib.data.declared import check, hub, read, retry
from conan_lib.errors import UserError
from conan_lib.params.data import DataParams
from conan_lib.params.sets import DeclaredSet

COMMIT = "0a" * 20


@pytest.fixture(autouse=True)
def nothing_asked_yet():
    hub._commit.cache_clear()


def declared(**given):
    return DeclaredSet.model_validate({"from": f"owner/name@{COMMIT}#triplet", "task": "retrieval", "lang": "en", **given})


@pytest.fixture
def loaded(monkeypatch):
    """Calls of load_dataset, answered from memory by datasets' own streaming type."""
    calls = []

    def load_dataset(path, config, **options):
        calls.append((path, config, options))
        return datasets.IterableDataset.from_generator(generate, gen_kwargs={"config": config})

    def generate(config):
        for n in range(5000):
            taken.append(n)
            yield {"query": f"{config} question {n}", "positive": f"{config} answer {n}", "negative": "no"}

    taken = []
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls, taken


def test_a_stream_is_read_at_its_commit_and_no_further_than_asked(loaded):
    calls, taken = loaded
    rows = list(read(declared(), ("en",), Funnel(), 20, seed=1))
    assert calls == [("owner/name", "triplet", {"split": "train", "streaming": True, "revision": COMMIT})]
    assert len(rows) == 20 and len(taken) <= hub.SHUFFLED + 21
    assert all(row["anchor"].replace("question", "answer") == row["positive"] and row["negatives"] == ["no"] for row in rows)
    assert rows == list(read(declared(), ("en",), Funnel(), 20, seed=1)) != list(read(declared(), ("en",), Funnel(), 20, seed=2))


def test_a_config_for_each_language_of_the_run(loaded):
    several = declared(**{"from": f"owner/name@{COMMIT}#2023.{{lang}}", "lang": ["en", "de", "fr"], "rows": 3})
    rows = list(read(several, ("de", "en"), Funnel(), 20))
    assert [config for _, config, _ in loaded[0]] == ["2023.en", "2023.de"]
    assert [row["lang"] for row in rows] == ["en"] * 3 + ["de"] * 3 and len({row["id"] for row in rows}) == 6


def test_configs_that_count_alike_have_ids_of_their_own(monkeypatch):
    records = [{"id": 7, "query": "q", "positive": "p"}, {"id": 8, "query": "r", "positive": "s"}]
    monkeypatch.setattr(
        hub, "stream", lambda declared, lang, commit, seed: ((lang, row | {"query": lang + row["query"]}) for row in records)
    )
    several = declared(**{"from": f"owner/name@{COMMIT}#{{lang}}", "lang": ["en", "de"]})
    assert len({row["id"] for row in read(several, ("de", "en"), Funnel())}) == 4


def test_a_set_of_many_languages_is_of_use_if_a_later_record_is(monkeypatch):
    records = [{"query": f"q{n}", "positive": "p", "lang": "pl" if n < 9 else "de"} for n in range(20)]
    monkeypatch.setattr(hub, "stream", lambda *_: (("here", row) for row in records))
    check(declared(lang=None), ("en", "de"))
    with pytest.raises(UserError, match=r"no record of use in en \(read 20, .*, languages 0\)"):
        check(declared(lang=None), ("en",))


def test_a_branch_is_resolved_to_the_commit_that_is_read(loaded, monkeypatch):
    asked = []

    def dataset_info(self, path, revision, timeout):
        asked.append((path, revision))
        return type("Info", (), {"sha": COMMIT})

    monkeypatch.setattr(hub.HfApi, "dataset_info", dataset_info)
    branch = declared(**{"from": "owner/name@main"})
    list(read(branch, ("en",), Funnel(), 1))
    list(read(declared(), ("en",), Funnel(), 1))
    assert [options["revision"] for _, _, options in loaded[0]] == [COMMIT] * 2
    assert hub.resolved(branch) == COMMIT and asked == [("owner/name", "main")], "asked once: what is recorded is what was read"


FAILURES = [
    hub.errors.OfflineModeIsEnabled("off"),
    hub.errors.LocalEntryNotFoundError("not cached"),
    TimeoutError("slow"),
    ValueError("no"),
]


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_whatever_the_clients_raise_is_one_line_with_the_mend(monkeypatch, error):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    monkeypatch.setattr(hub.HfApi, "dataset_info", fail)
    monkeypatch.setattr(retry.time, "sleep", lambda pause: None)
    mend = "see that it can be read, and start again" if retry.passing(error) else "[^\n]*, or save it as files"
    with pytest.raises(UserError, match=rf"^owner/name@{COMMIT[:12]}#triplet: {type(error).__name__}[^\n]*{mend}$"):
        next(read(declared(), ("en",), Funnel()))
    with pytest.raises(UserError, match=rf"^owner/name@main: {type(error).__name__}[^\n]*, or save it as files$"):
        next(read(declared(**{"from": "owner/name@main"}), ("en",), Funnel()))


def test_a_record_without_the_fields_names_the_set(loaded):
    with pytest.raises(UserError, match=rf"owner/name@{COMMIT[:12]}#triplet, record 1: no field Frage, which columns.anchor names"):
        next(read(declared(columns={"anchor": "Frage"}), ("en",), Funnel()))


PARAMS = DataParams(languages=("en",), sets=(declared(),))


def test_a_switched_off_hub_is_one_line(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        UserError, match=r"^data.sets: owner/name@\S+, but HF_HUB_OFFLINE is set: unset it, or save it as files and name those$"
    ):
        check_sets(PARAMS)


def test_an_unreachable_hub_is_one_line_at_once(monkeypatch):
    """The hub's own client, and nobody behind the door."""
    for switch in hub.SWITCHES:
        monkeypatch.delenv(switch, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    close_session()  # one that an earlier test opened has the proxies that there were then
    with pytest.raises(UserError, match=r"http://127.0.0.1:9 cannot be reached \(Connect\w*Error\): connect, or save it as files"):
        check_sets(PARAMS)


def test_the_list_of_sources_asks_nobody(monkeypatch):
    monkeypatch.setattr(hub, "get_session", lambda: pytest.fail("the hub was asked"))
    assert [row["source"] for row in catalogue(PARAMS)] == ["name"]
