"""Executed notebooks as small HTML pages that need no script and no network; LaTeX becomes MathML."""

import re
from pathlib import Path

import nbformat
from bs4 import BeautifulSoup, NavigableString
from latex2mathml.converter import convert
from nbconvert import HTMLExporter

from conan_lib.report.render import template

WIDGET = "application/vnd.jupyter.widget-view+json"
MATH = re.compile(r"\$\$(.+?)\$\$|\$([^\s$](?:[^$]*[^\s$])?)\$", re.DOTALL)


def export(notebook: Path) -> str:
    """One executed notebook as a page, without progress bars and stderr, whose log lines name this machine's folders; a page as it is."""
    if notebook.suffix == ".html":
        return notebook.read_text(encoding="utf-8")
    content = nbformat.read(notebook, as_version=4)
    for cell in content.cells:
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if not _passing(output)]
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True, exclude_anchor_links=True)
    body, _ = exporter.from_notebook_node(content)
    return template("notebook.html.j2", html=True).render(title=notebook.stem, body=with_mathml(body))


def _passing(output: nbformat.NotebookNode) -> bool:
    """Whether an output was for the moment alone: stderr, a bar that is drawn over itself and its end of line, a widget."""
    text = output.get("text", "-")
    return output.get("name") == "stderr" or "\r" in text or not text.strip() or WIDGET in output.get("data", {})


def with_mathml(html: str) -> str:
    """LaTeX between dollars in Markdown cells becomes MathML, which browsers draw themselves; code and outputs stay as they are."""
    soup = BeautifulSoup(html, "html.parser")
    for tag in soup.find_all("script"):
        tag.decompose()
    for cell in soup.select(".text_cell_render, .jp-RenderedMarkdown"):
        cell.smooth()
        for text in cell.find_all(string=MATH):
            if text.find_parent(["code", "pre"]) is None:
                _replace(text)
    return str(soup)


def _replace(text: NavigableString) -> None:
    parts, end = [], 0
    for match in MATH.finditer(text):
        display = "block" if match.group(1) else "inline"
        mathml = BeautifulSoup(convert((match.group(1) or match.group(2)).strip(), display=display), "html.parser")
        parts += [NavigableString(text[end : match.start()]), mathml]
        end = match.end()
    text.replace_with(*parts, NavigableString(text[end:]))
