"""Figures and pages as text: SVG that follows the page's colours, Markdown that GitHub shows, one HTML file that needs nothing else."""

import base64
import io
import re
from pathlib import Path

import matplotlib.figure
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from conan_lib.artefacts import replacing
from conan_lib.report.blocks import is_number, number
from conan_lib.report.figures import INK, PAPER, style

LARGEST_SVG = 200_000
"""Bytes above which a figure is kept as PNG."""


def template(name: str, html: bool) -> object:
    """A template of this package; an unknown name in it is an error."""
    environment = Environment(
        loader=PackageLoader("conan_lib.report"), autoescape=html, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"md": markdown_cell, "cell": html_cell, "number": number, "prose": prose, "sentence": sentence}
    environment.filters |= {"effect": effect, "signed": signed, "slug": slug, "is_number": is_number}
    return environment.get_template(name)


def picture(figure: matplotlib.figure.Figure) -> tuple[str, bytes]:
    """A figure as ("svg" or "png", bytes), the same for the same figure."""
    with style():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        if len(buffer.getvalue()) <= LARGEST_SVG:
            return "svg", re.sub(rb"[ \t]+\n", b"\n", buffer.getvalue())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
        return "png", buffer.getvalue()


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
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{escape(label)}" style="max-width:{width * 4 / 3:.0f}px"', 1)
    return Markup(svg)


def markdown_cell(text: str) -> str:
    """Text inside a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def html_cell(text: str) -> Markup:
    """Text inside an HTML table; an interval in brackets stands smaller."""
    return Markup(re.sub(r" (\[[-+\d., ]+\])$", r" <small>\1</small>", str(escape(text))))


def prose(text: str) -> Markup:
    """Plain text with `code` in backticks as HTML."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def effect(value: float, interval: tuple[float, float] | None) -> str:
    """An effect: with its sign where it is a difference, which is where it has an interval."""
    return signed(value) if interval else number(value)


def signed(value: float) -> str:
    """A difference with its sign; three decimals, more where they would all be zero."""
    return f"{value:+.3f}" if value == 0 or abs(value) >= 0.0005 else f"{value:+.1g}"


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def sentence(text: str) -> str:
    """The text with a capital at its start."""
    return text[:1].upper() + text[1:]


def write(path: Path, content: str | bytes) -> Path:
    """Write a file atomically."""
    with replacing(path) as new:
        new.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
