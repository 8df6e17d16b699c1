"""Pins: the report builds on finished, partial and empty runs and names what is missing; the page needs nothing from outside; every
link leads to a file; every number of the verdict table names an artefact; no cell is blank; the same
artefacts give the same bytes; stale files go."""

import csv
import json
import os
import re
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from conan_lib.errors import UserError
from conan_lib.findings.blocks import Table
from conan_lib.findings.claim import MEANINGS
from conan_lib.findings.published import inconsistencies, published
from conan_lib.findings.run import Run
from conan_lib.findings.tables import line_of, to_csv, to_html, to_markdown
from conan_lib.report.build import build_report
from conan_lib.report.citations import Citations
from conan_lib.report.notebooks import with_mathml
from conan_lib.report.render import inline, picture, slug
from conan_lib.report.sections import Section
from conan_lib.stages import open_stage
from conan_lib.table import RUN
from conan_lib.topics import claims, topics


class Page(HTMLParser):
    """Collects what a page refers to, and checks that its tags close."""

    VOID = {"meta", "link", "img", "br", "hr", "input"}

    def __init__(self, html: str):
        super().__init__()
        self.references, self.ids, self.open, self.tags = [], [], [], set()
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        values = dict(attributes)
        self.references += [values[name] for name in ("src", "href", "xlink:href", "data") if values.get(name)]
        if "id" in values:
            self.ids.append(values["id"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_page_is_self_contained_and_links_resolve(report):
    page = Page((report / "index.html").read_text())
    assert len(page.ids) == len(set(page.ids))
    for reference in page.references:
        if reference.startswith("#"):
            assert reference[1:] in page.ids
        elif not reference.startswith(("data:", "https://arxiv.org/")):
            assert "//" not in reference and (report / reference.partition("#")[0]).is_file(), reference
    assert not re.search(r"url\((?!#)", (report / "index.html").read_text())


def test_markdown_links_resolve_and_show_every_figure(report):
    text = (report / "report.md").read_text()
    links = re.findall(r"\]\(([^)]+)\)", text)
    headings = {slug(line.lstrip("# ")) for line in text.splitlines() if line.startswith("#")}
    for file, line in (link.split("#L") for link in links if "#L" in link):
        assert 2 <= int(line) <= len((report / file).read_text().splitlines()), f"{file} has no line {line}"
    here = [link.partition("#")[0] for link in links if not link.startswith(("#", "https://arxiv.org/"))]
    assert links and all(link[1:] in headings for link in links if link.startswith("#"))
    assert all((report / link).is_file() for link in here) and not any("artefacts/" in link for link in here)
    assert {link for link in links if link.startswith("figures/")} == {f"figures/{path.name}" for path in (report / "figures").iterdir()}
    assert {link.partition("#")[0] for link in links if link.startswith("tables/")} == {
        f"tables/{path.name}" for path in (report / "tables").iterdir()
    }


def test_every_number_of_the_ledger_names_an_artefact_that_exists(report, finished):
    rows = json.loads((report / "claims.json").read_text())
    assert len(rows) == len(list(csv.DictReader((report / "claims.csv").open()))) == len(claims())
    for row in rows:
        assert row["effect"] is None or row["keys"]
        assert all((finished / "artefacts" / key / "manifest.json").is_file() for key in row["keys"] if key != "conan_lib.model.backbone")
        assert (report / "report.md").read_text().count(f"| {row['id']} | [{row['name']}](#") == 1
    lines = (report / "claims.csv").read_text().splitlines()
    led = re.findall(r"\| (C\d+) \|.*\(claims\.csv#L(\d+)\)", (report / "report.md").read_text())
    assert len(led) >= 5 and all(lines[int(number) - 1].startswith(f"{id},") for id, number in led), "each number leads to its row"


def test_no_cell_is_blank(report):
    cells = re.findall(r"<td[^>]*>(.*?)</td>", (report / "index.html").read_text(), flags=re.DOTALL)
    assert len(cells) > 500 and not [cell for cell in cells if not re.sub(r"<[^>]+>", "", cell).strip()]
    rows = [line for line in (report / "report.md").read_text().splitlines() if line.startswith("|") and line != "| | | from |"]
    assert not [row for row in rows if re.search(r"\|\s*\|", row)]


def test_headline_shows_the_run(report):
    html = (report / "index.html").read_text()
    assert "0.02 to 0.59" in html and "falls in 9 of 9" in html and "30 queries a language" in html
    assert html.index("Did the paper hold up?") < html.index('<section id="claims">') < html.index('<section id="data">')


def test_the_first_screen_is_the_ledger_and_its_legend(report):
    html = (report / "index.html").read_text()
    first = html[html.index("<main") : html.index("<nav")]
    assert html.count('class="card tile"') == 4
    assert all(f'<a href="#{claim.id}">{claim.name}</a>' in first and f'id="{claim.id}"' in html for claim in claims())
    assert all(f">{verdict}</span></dt>" in first for verdict in MEANINGS)


def test_one_section_for_each_figure_and_table_of_the_paper(report):
    order = [topic.id for topic in topics()]
    assert {"architecture", "data", "mask", "mixing", "negatives", "retrieval", "mkqa", "ablation", "training_gap", "alpha"} <= set(order)
    html = (report / "index.html").read_text()
    found = re.findall(r'<section id="(\w+)">', html)
    assert found[: len(order) + 1] == ["claims", *order]
    assert len(re.findall(r"<h2>", html)) == len(found) + 1 and "1,499,205,120" in html[html.index('id="architecture"') :]
    mask = html[html.index('<section id="mask">') : html.index('<section id="filter">')]
    assert '<a href="#inconsistencies">8</a>' in mask and 'href="#C1"' in mask


@pytest.mark.parametrize("table", [published()[id] for id in ("mteb_eng_v2", "cmteb", "practical")], ids=lambda table: table.id)
def test_the_papers_numbers_share_no_column_with_ours(report, table):
    rows = list(csv.reader((report / "tables" / f"paper_{table.id}.csv").open()))
    assert rows[0] == list(table.columns)
    assert [[cell or None for cell in row] for row in rows[1:]] == [[None if c is None else str(c) for c in row] for row in table.rows]


def test_a_key_is_short_whole_in_its_title_and_leads_to_its_row_and_notebook(report):
    html, key = (report / "index.html").read_text(), Run.open("params/tiny.yaml").key("evaluate")
    stage, value = key.split("/")
    link = f'<a class="key" href="#key-{stage}-{value}" title="{key}">{stage}/{value[:6]}<span class="rest">{value[6:]}</span></a>'
    assert link in html and f'<td id="key-{stage}-{value}">{key}</td>' in html
    assert f'{link} <a href="notebooks/07_eval.html">notebook 07</a>' in html or f'{link}</details> <a href="notebooks/' in html
    assert f"`{key}`, [notebook 07](notebooks/07_eval.html)" in (report / "report.md").read_text()


def test_a_column_of_keys_links_them_and_the_first_cell_of_a_key_is_where_they_lead():
    key, other = "score/0123456789abcdef", "score/fedcba9876543210"
    table = Table("t", "c", pd.DataFrame({"artefact": [key, key]}), ("manifests",), keys=("artefact",), anchors=("artefact",))
    cite = Citations([Section("run", "Run", (table,))], ())
    html = to_html(table, cite)
    assert html.count('id="key-score-0123456789abcdef"') == 1 and html.count(key) == 2
    cited = to_html(Table("u", "c", pd.DataFrame({"from": [(key,), (key, other, key)]}), (), keys=("from",)), cite)
    assert cited.count('href="#key-score-0123456789abcdef"') == 3 and f"<code>{other}</code>" in cited
    assert cited.count("<summary>3 artefacts</summary>") == 1


def test_same_artefacts_same_bytes_and_stale_files_go(report):
    before = snapshot(report)
    (report / "figures" / "old.svg").write_text("old")
    assert snapshot(build_report("params/tiny.yaml")) == before


def test_a_partial_run_says_what_is_missing(fake_run):
    done = ("corpus", "tokenizer", "pretrain")
    folder = build_report(fake_run(*done))
    for name in ("report.md", "index.html"):
        text = (folder / name).read_text()
        Page((folder / "index.html").read_text())
        assert "Partial run" in text
        for stage in set(RUN) - set(done) - {"start"}:
            waiting = f"stage {stage} has not been computed yet ({open_stage(stage, 'params/tiny.yaml').artefact.stage}/"
            assert waiting in text or stage in ("supervised_no_clr", "mine")
    assert "has no finished model" in (folder / "model_card.md").read_text()


def test_an_empty_run_builds(fake_run):
    fake_run("corpus")
    manifest = open_stage("corpus", "params/tiny.yaml").path / "manifest.json"
    manifest.unlink()
    text = (build_report("params/tiny.yaml") / "report.md").read_text()
    assert "stage corpus is partial" in text and "no stage has finished" in text


def test_report_carries_no_path_of_this_machine(report, finished):
    assert not [name for name, content in snapshot(report).items() if str(finished).encode() in content]


def test_a_mistake_in_the_parameters_is_one_line(fake_run):
    fake_run("corpus")
    with pytest.raises(UserError, match="no such parameter file"):
        build_report("params/none.yaml")


def test_notebooks_become_pages_with_mathml_and_untouched_code(report):
    html = (report / "notebooks" / "05_weak.html").read_text()
    page = Page(html)
    assert (
        "math" in page.tags
        and "script" not in page.tags
        and "$5 and $6" in html
        and "\\frac" not in re.sub(r"<annotation.*?</annotation>", "", html)
    )
    assert [r for r in page.references if not r.startswith(("data:", "#"))] == ["../index.html"]


def test_mathml_leaves_prices_in_code_alone():
    html = '<div class="text_cell_render"><p>cost $x^2$ here</p><pre>$a$</pre></div><pre>$b$</pre>'
    made = with_mathml(html)
    assert made.count("<math") == 1 and "$a$" in made and "$b$" in made


def test_inlined_figures_take_the_pages_colour_and_keep_their_ids_apart(report):
    from conan_lib.topics.negatives.show import negatives

    kind, content = picture(negatives(open_stage("supervised", "params/tiny.yaml")))
    svg = inline("one", kind, content, "a <label>")
    assert kind == "svg" and "currentColor" in svg and 'aria-label="a &lt;label&gt;"' in svg
    assert all(i.startswith("one-") for i in re.findall(r'id="([^"]+)"', svg)) and not re.findall(r'(?:url\(|href=")#(?!one-)', svg)


def test_each_inconsistency_of_the_paper_is_told_once(report):
    for name in ("report.md", "index.html"):
        text = unescape((report / name).read_text())
        assert [number for number, point in inconsistencies().items() if text.count(point[:40]) != 1] == []


def test_a_page_shows_no_row_and_no_column_of_nothing_and_the_csv_keeps_them():
    table = Table(
        "t", "c", pd.DataFrame({"task": ["a", "b"], "x": [1.0, None], "x low": [0.5, None], "x high": [2.0, None], "y": [None, None]}), ()
    )
    text = to_markdown(table)
    assert "not measured" not in text and "| b |" not in text and "| y" not in text and to_csv(table).count("\n") == 3


def test_every_figure_says_what_it_shows_and_whose_numbers_these_are(report):
    html = (report / "index.html").read_text()
    figures = re.findall(r'<figure class="block" id="figure-(\w+)">(.*?)</figure>', html, flags=re.DOTALL)
    assert len(figures) > 15 and [id for id, inside in figures if '<p class="takeaway">' not in inside] == []
    tables = re.findall(r'<div class="block table[^"]*" id="table-(\w+)">(.*?)<table', html, flags=re.DOTALL)
    of_a_model = [id for id, inside in tables if re.search(r'title="(supervised|evaluate|weak|mix|efficiency)/', inside)]
    assert len(of_a_model) > 8
    assert [id for id, inside in tables if id in of_a_model and "contrastive steps, cross-lingual R@10 0.59." not in inside] == []


def test_the_numbers_of_a_table_lead_to_its_csv(report):
    html = (report / "index.html").read_text()
    tables = re.findall(r'<div class="block table[^"]*" id="table-(\w+)">(.*?)</table>', html, flags=re.DOTALL)
    for id, inside in tables:
        file, shown = re.search(r'<a href="([^"]+\.csv)">csv</a>', inside).group(1), inside.count("<tr id=")
        assert 1 <= shown <= len(list(csv.reader((report / file).open()))) - 1, id


def test_a_number_of_the_first_screen_leads_to_the_row_that_holds_it(report):
    html, text = (report / "index.html").read_text(), (report / "report.md").read_text()
    links = re.findall(r'<b><a class="number" href="#row-(\w+)-(\d+)">(.*?)</a></b>', html)
    told = re.findall(r"\*\*\[(.*?)\]\(tables/(\w+)\.csv#L(\d+)\)\*\*", text)
    assert sorted(links) == sorted((table, line, value) for value, table, line in told) and len(links) == 3
    for table, line, value in links:
        frame = pd.read_csv(report / f"tables/{table}.csv")
        row = frame.iloc[int(line) - 2]
        scale = 60 if table == "stages" else 1
        held = {f"{number / scale:.{places}f}" for number in row if isinstance(number, int | float) for places in (1, 2)}
        assert set(re.findall(r"[\d.]+", value)) <= held, f"{table}, line {line}"
        shown = re.search(rf'<tr id="row-{table}-{line}">(.*?)</tr>', html).group(1)
        assert f"<td>{row.drop(['type'], errors='ignore').iloc[0]}</td>" in shown


def test_an_effect_leads_to_its_claim_and_its_line_of_the_ledger(report):
    html, ledger = (report / "index.html").read_text(), (report / "claims.csv").read_text().splitlines()
    effects = re.findall(r'<a class="number" href="#(C\d+)"><b>(.*?)</b>', html)
    assert len(effects) >= 5
    for claim, value in effects:
        inside = html[html.index(f'id="{claim}"') :].partition("</details>\n<details")[0]
        line = int(re.search(r"claims\.csv</a>, line (\d+)", inside).group(1))
        assert f"<dd><b>{value}</b>" in inside and ledger[line - 1].startswith(f"{claim},")


def test_a_printed_row_leads_to_the_line_that_holds_its_numbers(report):
    rows = re.findall(r"^\| \[(.*?)\]\((tables/\w+\.csv)#L(\d+)\) \| (.*) \|$", (report / "report.md").read_text(), flags=re.MULTILINE)
    assert len(rows) > 30
    for name, file, line, rest in rows:
        lines = (report / file).read_text().splitlines(keepends=True)[int(line) - 1 :]
        held = next(csv.reader(lines))
        assert " ".join(held[0].split()).replace("|", "\\|").replace("<", "&lt;") == name, f"{file}, line {line}"
        values = [float(cell) for cell in held if re.fullmatch(r"[-+]?[\d.]+(e-?\d+)?", cell)]
        for cell in rest.split(" | "):
            if re.fullmatch(r"[-+]?[\d,.]+( \[[-+]?[\d,.]+, [-+]?[\d,.]+\])?", cell):
                for text in re.findall(r"[-+]?[\d.]+", re.sub(r"(?<=\d),(?=\d{3})", "", cell)):
                    near = 0.51 * 10 ** -len(text.partition(".")[2])
                    assert any(abs(float(text) - value) <= near for value in values), f"{file}, line {line}: {text} of {cell}"


def test_rows_of_a_table_are_named_by_their_line_in_the_csv_whatever_is_left_out_or_broken():
    texts = ["one", "two\nlines", "nothing", "last"]
    table = Table("t", "c", pd.DataFrame({"task": texts, "x": [1.0, 2.0, None, 4.0]}, index=[7, 7, 7, 7]), ())
    lines = to_csv(table).splitlines()
    html, text = to_html(table), to_markdown(table, linked=True)
    assert re.findall(r'<tr id="row-t-(\d+)">', html) == ["2", "3", "6"] and lines[2].startswith('"two') and lines[5] == "last,4.0"
    assert re.findall(r"\| \[(.*?)\]\(tables/t\.csv#L(\d+)\) \|", text) == [("one", "2"), ("two lines", "3"), ("last", "6")]
    assert line_of(table, task="last") == 6
    with pytest.raises(KeyError, match="0 rows"):
        line_of(table, task="none")


def test_a_figure_leads_to_the_table_that_holds_its_numbers(report):
    html = (report / "index.html").read_text()
    figures = re.findall(r'<figure class="block" id="figure-(\w+)">(.*?)</figure>', html, flags=re.DOTALL)
    led = {id: re.findall(r"Numbers: (.*?)\.</span>", inside) for id, inside in figures}
    assert 'href="#row-mixing-' in led["umap"][0] and 'href="#row-crosslingual-' in led["languages"][0]
    assert sum(map(bool, led.values())) > 12


def test_the_report_is_short_enough_to_read(report):
    """A third of the 24,000 words that it had, with every section in it."""
    assert len((report / "report.md").read_text().split()) < 8000


def test_the_picture_of_the_stages_is_the_same_in_every_process():
    """Sets are walked in an order that changes from process to process."""
    code = "from conan_lib.findings.pipeline import pipeline\nfrom conan_lib.report.render import picture\nprint(picture(pipeline())[1])"
    command, drawn = [sys.executable, "-c", code], set()
    for seed in "123":
        drawn.add(subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout)
    assert len(drawn) == 1 and len(drawn.pop()) > 1000
