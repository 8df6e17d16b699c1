"""The UMAP figure of the page: inline SVG whose points say their language and text, to a pointer and, with the script, to the keyboard."""

from collections.abc import Iterable
from dataclasses import replace

from markupsafe import Markup, escape

from conan_lib.data.records import read
from conan_lib.findings.blocks import Block, Figure
from conan_lib.findings.plots import language_colours
from conan_lib.findings.run import Run
from conan_lib.findings.tables import cut

SIDE, MARGIN, LONGEST = 400, 12, 160
"""Width and height of a panel and its margin, in SVG units; characters of a text that a point shows."""
SHAPES = (
    '<circle r="3.6"/>',
    '<rect x="-3.2" y="-3.2" width="6.4" height="6.4"/>',
    '<path d="M0-4.6L4.6 0L0 4.6L-4.6 0Z"/>',
    '<path d="M0-4.4L4.2 3.2H-4.2Z"/>',
    '<path d="M0 4.4L4.2-3.2H-4.2Z"/>',
)


def umap_block(run: Run, block: Block) -> Block:
    """The figure as GitHub shows it, with points that can be read on the page."""
    if not isinstance(block, Figure):
        return block
    points, numbers = read(run.stages["mix"].path / "points.parquet"), run.file("mix", "mixing.json")
    return replace(block, page=panels(points, {arm: _numbers(numbers.get(arm, {})) for arm in {point["model"] for point in points}}))


def panels(points: list[dict], titles: dict[str, str]) -> Markup:
    """One panel for each model of `points` ({model, text, lang, group, x, y}), a shape and colour for each language.

    Args:
        titles: model -> what stands beside its name.
    """
    models = sorted({point["model"] for point in points}, reverse=True)  # without CLR, then with it
    colours = language_colours(sorted({point["lang"] for point in points}))
    shapes = {language: number % len(SHAPES) for number, language in enumerate(colours)}
    groups = {group: number for number, group in enumerate(dict.fromkeys(point["group"] for point in points))}
    defs = Markup("").join(Markup(f'<g id="umap-shape-{number}">{shape}</g>') for number, shape in enumerate(SHAPES))
    parts = [
        Markup(
            '<div class="umap"><svg class="defs" aria-hidden="true" width="0" height="0"><defs>{}</defs></svg><div class="panels">'
        ).format(defs)
    ]
    for model in models:
        own = [point for point in points if point["model"] == model]
        label = f"UMAP of {len(own)} texts in {len(colours)} languages, {model}"
        parts.append(
            Markup('<div class="panel"><p><b>{}</b> {}</p><svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
                model, titles.get(model, ""), SIDE, SIDE, label
            )
        )
        places = dict(zip(map(id, own), _scaled(own), strict=True))
        for language, colour in colours.items():
            parts.append(Markup('<g data-lang="{0}" fill="{1}" style="--c:{1}">').format(language, colour))
            for point in (point for point in own if point["lang"] == language):
                x, y = places[id(point)]
                text = cut(point["text"], LONGEST)
                parts.append(
                    Markup(f'<use href="#umap-shape-{shapes[language]}" x="{x:.0f}" y="{y:.0f}" data-g="{groups[point["group"]]}"><title>')
                    + escape(f"{language}: {text}")
                    + Markup("</title></use>")
                )
            parts.append(Markup("</g>"))
        parts.append(Markup("</svg></div>"))
    parts.append(Markup('</div><ul class="legend">'))
    item = Markup(
        '<li data-lang="{0}"><svg viewBox="-6 -6 12 12" aria-hidden="true" fill="{1}" style="--c:{1}"><use href="#umap-shape-{2}"/></svg>'
        "{0}</li>"
    )
    parts += [item.format(language, colour, shapes[language]) for language, colour in colours.items()]
    return Markup("").join([*parts, Markup("</ul></div>")])


def _scaled(points: Iterable[dict]) -> list[tuple[float, float]]:
    """Coordinates within a panel, y upwards."""
    columns = []
    for axis in ("x", "y"):
        values = [point[axis] for point in points]
        low, span = min(values), max(values) - min(values) or 1.0
        columns.append([MARGIN + (SIDE - 2 * MARGIN) * (value - low) / span for value in values])
    return [(x, SIDE - y) for x, y in zip(*columns, strict=True)]


def _numbers(found: dict) -> str:
    shown = {"purity": "purity", "entropy": "entropy", "mean_r1": "R@1"}
    return ", ".join(f"{name} {found[measure]['value']:.2f}" for measure, name in shown.items() if measure in found)
