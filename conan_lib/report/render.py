"""Figures and pages as text: SVG that follows the page's colours, Markdown that GitHub shows, one HTML file that needs nothing else."""

import base64
import io
import re

import matplotlib.figure
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from mistune import create_markdown

from conan_lib.findings.claim import Finding
from conan_lib.findings.plots import INK, PAPER, png, style
from conan_lib.findings.tables import markdown_cell, number, to_html, to_markdown

LARGEST_SVG = 200_000
"""Bytes above which a figure is kept as PNG."""
MARKDOWN = create_markdown(escape=True)


def template(name: str, html: bool) -> object:
    """A template of this package; an unknown name in it is an error."""
    environment = Environment(
        loader=PackageLoader("conan_lib.report"), autoescape=html, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"md": markdown_cell, "number": number, "prose": prose, "sentence": sentence, "slug": slug}
    environment.filters |= {"effect": effect, "interval": interval, "as_html": to_html, "as_markdown": to_markdown, "markdown": markdown}
    return environment.get_template(name)


def picture(drawing: matplotlib.figure.Figure) -> tuple[str, bytes]:
    """A figure as ("svg" or "png", bytes), the same for the same figure."""
    with style():
        buffer = io.BytesIO()
        drawing.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    if len(buffer.getvalue()) > LARGEST_SVG:
        return "png", png(drawing, 120)
    return "svg", re.sub(rb"[ \t]+\n", b"\n", buffer.getvalue())


def inline(id: str, kind: str, content: bytes, label: str) -> Markup:
    """A picture inside the page: SVG takes the page's text colour and background, its ids stay its own; PNG is a data URI on white."""
    if kind == "png":
        data = base64.b64encode(content).decode()
        return Markup(f'<img class="png" alt="{escape(label)}" src="data:image/png;base64,{data}">')
    svg = content.decode()
    svg = svg[svg.index("<svg") :]
    width = float(re.search(r'width="([\d.]+)pt"', svg).group(1))
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'id="', f'id="{id}-', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\g<1>#{id}-", svg)
    svg = svg.replace(f"fill: {PAPER}", "fill: none", 1)  # the figure's own background comes first
    svg = svg.replace(INK, "currentColor")
    svg = svg.replace(
        "<svg", f'<svg role="img" aria-label="{escape(label)}" preserveAspectRatio="xMinYMid" style="max-width:{width * 4 / 3:.0f}px"', 1
    )
    return Markup(svg)


def markdown(text: str) -> Markup:
    """Markdown as HTML; HTML in it is text. Headings stay below those of the sections."""
    return Markup(MARKDOWN(text))


def prose(text: str) -> Markup:
    """Plain text with `code` in backticks as HTML."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def effect(finding: Finding) -> str:
    """A finding's effect: with its sign where it is a difference, which is where it has an interval."""
    return number(finding.effect, decimals=3 if finding.interval else None, signed=finding.interval is not None)


def interval(finding: Finding) -> str:
    """The interval of a finding's effect; empty where there is none."""
    return "[{}, {}]".format(*(number(end, decimals=3, signed=True) for end in finding.interval)) if finding.interval else ""


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def sentence(text: str) -> str:
    """The text with a capital at its start."""
    return text[:1].upper() + text[1:]
