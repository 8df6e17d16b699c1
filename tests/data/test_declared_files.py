"""Every kind of file is read; one that cannot be is one line with its name, the record and the mend; a row says what it cannot mean."""

import csv
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from conan_lib.data.clean import Funnel
from conan_lib.data.declared import check, read
from conan_lib.data.declared.files import records
from conan_lib.errors import UserError
from conan_lib.params.sets import DeclaredSet
from tests.small_declared import lines, read_all

CASES = {
    "p.jsonl": (b'{"query": "a"}\n{"query": \n', "p.jsonl, line 2: not JSON"),
    "q.jsonl": (b'{"query": "a"}\n\n["a"]\n', "q.jsonl, line 3: found list where a record is needed"),
    "u.jsonl": ('{"query": "a"}\n{"query": "ä"}'.encode("latin-1"), "u.jsonl, line 2: not UTF-8: save it as UTF-8"),
    "a.json": (b'[{"query": "a"},\n {"query"}]', "a.json, line 2: not JSON"),
    "t.parquet": (b"PAR1 and no more", "t.parquet: not a parquet table .*: save it as parquet again, or as .jsonl"),
    "c.csv": (b"a,b\n1,2\n1,2,3\n", "c.csv, line 3: 3 fields under 2 names: quote what holds a ','"),
    "d.csv": (b"a,b\n1,2\n1\n", "d.csv, line 3: 1 fields under 2 names"),
    "e.csv": (b'a,b\n1,"2\n', "e.csv, line 2: not CSV"),
    "s.csv": (b"a;b\n1,2;3\n", "s.csv, line 2: 2 fields under 1 names; its columns seem to be divided by ';': save it as .csv with commas"),
    "q.tsv": (
        b'a\tb\n"x"y\t2\n1\n',
        r"q.tsv, line 2: not CSV \('\\t' expected after '\"'\): write a quotation mark inside of quotation marks twice",
    ),
    "f.csv": (b"a,b,a\n1,2,3\n", "f.csv, line 1: two columns are called a: give one of them another name"),
    "r.jsonl": (b'{"query": "a"}\n' + b"[" * 100_000, "r.jsonl, line 2: not JSON"),
    "k.jsonl": (b'{"query": "a"}\n{"query": "a", "pos": ["b"], "query": "c"}', "k.jsonl, line 2: key 'query' stands twice: keep one"),
    "k.json": (b'[{"query": "a"},\n\n{"pos": [{"text": "b", "text": "c"}]}]', "k.json, record 2: key 'text' stands twice: keep one"),
    "n.jsonl": (b'{"query": ' + b"1" * 5000 + b"}", "n.jsonl, line 1: not JSON"),
    "g.jsonl.gz": (b"no gzip", "g.jsonl.gz: not readable as gzip"),
    "h.jsonl.gz": (gzip.compress(b'{"query": "a"}' * 99)[:-20] + b"x" * 20, "h.jsonl.gz: not readable as gzip"),
    "b.jsonl.gz": (gzip.compress(b" " * 2**22), "b.jsonl.gz: holds more than 1,048,576 bytes, 200 times its size"),
    "b.json.gz": (gzip.compress(b"[" + b" " * 2**22), "b.json.gz: holds more than 1,048,576 bytes, 200 times its size"),
    "b.csv.gz": (gzip.compress(b"a,b\n" + b"1" * 2**22), "b.csv.gz: holds more than 1,048,576 bytes, 200 times its size"),
    "x.docx": (b"", "x.docx: not a kind of file that is read: give .jsonl, .json"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_file_is_one_line_with_its_place(tmp_path, name):
    content, message = CASES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"^[^\n]*{message}[^\n]*$"):
        list(records(tmp_path / name))


def test_a_folder_must_hold_one_kind_of_file(tmp_path):
    with pytest.raises(UserError, match="none: no such file or folder"):
        list(records(tmp_path / "none"))
    with pytest.raises(UserError, match=r"no .jsonl, .* in it"):
        list(records(tmp_path))
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / ".b.jsonl").write_text("{}")
    assert len(list(records(tmp_path))) == 1
    (tmp_path / "b.jsonl").write_text("{}")
    with pytest.raises(UserError, match=r"holds .csv and .jsonl files: keep one kind in a folder"):
        list(records(tmp_path))


def test_an_unfinished_translation_is_not_read(tmp_path):
    (tmp_path / "identity.json").write_text("{}")
    (tmp_path / "shards").mkdir()
    with pytest.raises(UserError, match="its translation is not finished: give the same `conan-lib translate` again"):
        list(records(tmp_path))


def test_files_are_read_as_far_as_they_are_asked_for(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"query": "a", "pos": ["b"]}\n' * 3 + "not JSON\n")
    rows = read(DeclaredSet.model_validate({"from": str(path), "task": "retrieval", "lang": "en"}), ("en",), Funnel())
    assert next(rows)["anchor"] == "a"
    few = DeclaredSet.model_validate({"from": str(path), "task": "retrieval", "lang": "en", "rows": 3})
    check(few, ("en",))
    with pytest.raises(UserError, match="line 4: not JSON"):
        check(few.model_copy(update={"rows": None}), ("en",))


def test_parquet_is_read_in_pieces_with_running_numbers(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": [str(n) for n in range(2500)]}), path, row_group_size=700)
    found = list(records(path))
    assert [row["text"] for _, row in found] == [str(n) for n in range(2500)]
    assert found[-1][0] == f"{path}, row 2500"


def test_plain_text_is_documents_between_empty_lines_and_long_ones_end(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("One\nline.\n\n\nAnother.\n" + "A long line of words.\n" * 300, encoding="utf-8")
    found = read_all(path, task="text")
    assert [row["text"] for row in found[:1]] == ["One\nline."] and found[1]["text"].startswith("Another.\nA long")
    assert max(len(row["text"]) for row in found) < 4100 and len(found) == 3


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".json", ".parquet", ".csv", ".tsv"])
def test_text_columns_are_read_from_every_kind_of_file(tmp_path, suffix):
    path, rows = tmp_path / f"t{suffix}", [{"title": "A", "text": "One, two\nand three."}, {"title": "B", "text": "“Four”"}]
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix in (".csv", ".tsv"):
        with open(path, "w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, ["title", "text"], delimiter="\t" if suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    elif suffix == ".jsonl.gz":
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.write("\n".join(map(json.dumps, rows)))
    else:
        path.write_text(json.dumps(rows, indent=1) if suffix == ".json" else "\n\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert [(row["title"], row["text"]) for row in read_all(path, task="text")] == [tuple(row.values()) for row in rows]


def test_tabs_without_quoting_are_read_and_with_quoting_as_before(tmp_path):
    plain, quoted = tmp_path / "plain.tsv", tmp_path / "quoted.tsv"
    plain.write_text('query\tpos\n"whole"\ta\n"the" bridge\tis "old"\n"half\tb\n')
    quoted.write_text('query\tpos\n"whole"\t"two\nlines"\n')
    assert [tuple(row.values()) for _, row in records(plain)] == [('"whole"', "a"), ('"the" bridge', 'is "old"'), ('"half', "b")]
    assert [tuple(row.values()) for _, row in records(quoted)] == [("whole", "two\nlines")]


def test_a_suffix_may_be_in_capitals(tmp_path):
    (tmp_path / "P.JSONL.GZ").write_bytes(gzip.compress(b'{"query": "a"}'))
    assert [row for _, row in records(tmp_path / "P.JSONL.GZ")] == [row for _, row in records(tmp_path)] == [{"query": "a"}]


def test_a_folder_of_shards_is_read_in_order(tmp_path):
    folder = tmp_path / "shards" / "data"
    folder.mkdir(parents=True)
    (tmp_path / "shards" / "README.md").write_text("card")
    for number in (1, 0):
        lines(folder / f"train-{number}.jsonl", {"query": f"q{number}", "pos": [f"p{number}"]})
    assert [row["anchor"] for row in read_all(tmp_path / "shards")] == ["q0", "q1"]


FORMS = {
    "my/pairs.jsonl": ("pairs", None),
    "my/pairs.jsonl.gz": ("pairs", None),
    "/data/shards/": ("shards", None),
    "./my/folder": ("folder", None),
    "owner/name": ("name", {"path": "owner/name", "revision": "", "config": ""}),
    "owner/na.me@main": ("na.me", {"path": "owner/na.me", "revision": "main", "config": ""}),
    "owner/name@refs/convert/parquet#a.{lang}": ("name", {"path": "owner/name", "revision": "refs/convert/parquet", "config": "a.{lang}"}),
    "owner/name#triplet": ("name", {"path": "owner/name", "revision": "", "config": "triplet"}),
}


@pytest.mark.parametrize("given", FORMS)
def test_from_tells_files_from_the_hub(given):
    declared = DeclaredSet.model_validate({"from": given, "task": "weak", "lang": "en"})
    assert (declared.source, declared.hub) == FORMS[given] and not declared.pinned
    assert json.loads(declared.model_dump_json(exclude_none=True))["from"] == given
    assert DeclaredSet.model_validate(declared.model_dump()) == declared


def test_only_a_commit_is_pinned():
    assert DeclaredSet.model_validate({"from": f"owner/name@{'0a' * 20}", "task": "weak", "lang": "en"}).pinned


MISTAKES = {
    "task: say what a.csv trains": {"task": None},
    "columns.text: task retrieval has no such field; it has id, anchor": {"columns": {"text": "x"}},
    "score_range: belongs to task sts, not to retrieval": {"score_range": [0, 5]},
    "score_range: .* does not rise": {"task": "sts", "score_range": [5, 0]},
    "lang: several languages need": {"lang": ["en", "de"]},
    "lang: the config has {lang}: name the languages": {"from": "a/b#x.{lang}", "lang": None},
    "task: from: embedded takes no such key": {"from": "embedded", "lang": None, "share": 2.0},
}


@pytest.mark.parametrize("message", MISTAKES)
def test_an_impossible_row_names_its_key(message):
    given = {"from": "a.csv", "task": "retrieval", "lang": "en"} | MISTAKES[message]
    with pytest.raises(ValidationError, match=message):
        DeclaredSet.model_validate({key: value for key, value in given.items() if value is not None})
