"""The UMAP figure of the page: inline SVG whose points say their language and text, to a pointer and, with the script, to the keyboard."""

from dataclasses import replace

import pandas as pd
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from conan_lib.data.records import read
from conan_lib.findings.blocks import Block, Figure
from conan_lib.findings.plots import language_colours
from conan_lib.findings.run import Run
from conan_lib.findings.tables import cut, number

SIDE, MARGIN, LONGEST = 400, 12, 160
"""Width and height of a panel and its margin, in SVG units; characters of a text that a point shows."""
SHAPES = (
    '<circle r="3.6"/>',
    '<rect x="-3.2" y="-3.2" width="6.4" height="6.4"/>',
    '<path d="M0-4.6L4.6 0L0 4.6L-4.6 0Z"/>',
    '<path d="M0-4.4L4.2 3.2H-4.2Z"/>',
    '<path d="M0 4.4L4.2-3.2H-4.2Z"/>',
)
MEASURES = {"purity": "purity", "entropy": "entropy", "mean_r1": "R@1"}


def with_points(run: Run, block: Block) -> Block:
    """The figure as GitHub shows it, with points that can be read on the page."""
    if not isinstance(block, Figure):
        return block
    return replace(block, page=panels(read(run.stages["mix"].path / "points.parquet"), run.file("mix", "mixing.json")))


def panels(rows: list[dict], numbers: dict[str, dict]) -> Markup:
    """One panel for each model of the points {model, text, lang, group, x, y}, a shape and colour for each language.

    Args:
        numbers: model -> measure -> {"value": ...}.
    """
    points = pd.DataFrame(rows)
    for axis in ("x", "y"):
        low, high = (points.groupby("model")[axis].transform(end) for end in ("min", "max"))
        points[axis] = (MARGIN + (SIDE - 2 * MARGIN) * (points[axis] - low) / (high - low).replace(0, 1)).round().astype(int)
    points = points.assign(
        y=SIDE - points["y"], text=[cut(text, LONGEST) for text in points["text"]], place=pd.factorize(points["group"])[0]
    )
    languages = sorted(points["lang"].unique())
    number_of = lambda model, measure: numbers.get(model, {}).get(measure, {}).get("value", 0)  # noqa: E731
    shown = [
        {
            "name": model,
            "texts": len(own),
            "numbers": ", ".join(f"{name} {number(found['value'], decimals=2)}" for measure, name in MEASURES.items()
                                 if (found := numbers.get(model, {}).get(measure))),
            "names": _names(own) if number_of(model, "purity") > 0.5 else {},
            "points": {language: list(part.itertuples()) for language, part in own.groupby("lang")},
        }
        for model, own in sorted(points.groupby("model"), reverse=True)  # without CLR, then with it
    ]  # fmt: skip
    template = Environment(loader=PackageLoader("conan_lib.topics.mixing", ""), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return Markup(
        template.get_template("umap.html.j2").render(
            shapes=SHAPES,
            side=SIDE,
            panels=shown,
            colours=language_colours(languages),
            places={language: place % len(SHAPES) for place, language in enumerate(languages)},
        )
    )


def _names(points: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Where the name of each language's cluster stands: above its middle, inside the panel."""
    middles = points.groupby("lang")[["x", "y"]].median()
    return {language: (x, max(14, y - 10)) for language, x, y in middles.itertuples()}
