"""The picture of checked translations, apart from the report's: `conan-lib translate` draws it and needs nothing else of a report."""

import json
from itertools import cycle
from pathlib import Path

import numpy as np

from conan_lib.data.translate.checks import REASONS
from conan_lib.data.translate.output import FUNNEL
from conan_lib.errors import UserError
from conan_lib.findings.plots import GREY, PALETTE, Drawing, style


def translation_checks(folder: Path) -> Drawing:
    """A data set of translated queries (`conan-lib translate`): kept and refused by language, and the share that each check refused.

    Raises:
        UserError: the folder holds no finished data set.
    """
    if not (folder / FUNNEL).is_file():
        raise UserError(f"{folder}: no {FUNNEL} in it: name the folder of a finished `conan-lib translate`")
    rows = json.loads((folder / FUNNEL).read_text(encoding="utf-8"))
    counts = {(row["lang"], row["refused"]): row["queries"] for row in rows}
    languages = sorted({lang for lang, _ in counts}, key=lambda lang: (-sum(n for (own, _), n in counts.items() if own == lang), lang))
    colours = {"": PALETTE[0]} | dict(zip(REASONS, cycle((GREY, *PALETTE[1:])), strict=False))
    values = {result: np.array([counts.get((lang, result), 0) for lang in languages]) for result in colours}
    total = sum(values.values())
    with style():
        drawing = Drawing(figsize=(8.6, 0.24 * len(languages) + 2))
        number, share = drawing.subplots(1, 2, sharey=True)
        left = {number: np.zeros(len(languages)), share: np.zeros(len(languages))}
        for result, found in values.items():
            if not found.any():
                continue
            label = f"{f'refused: {result}' if result else 'kept'} ({found.sum():,})"
            for axis, width in ((number, found), (share, 100 * found / total)) if result else ((number, found),):
                axis.barh(languages, width, left=left[axis], color=colours[result], label=label, height=0.75)
                left[axis] += width
        number.invert_yaxis()
        number.set(xlabel="translated queries", ylabel="language", title="kept and refused")
        share.set(xlabel="percent of the language's queries", title="refused")
        for axis in (number, share):
            axis.grid(axis="y", visible=False)
        drawing.legend(*number.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        return drawing
