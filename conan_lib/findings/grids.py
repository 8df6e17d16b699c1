"""What every grid shows: its table and figures, what was run of it, the paper's table with our cells, the files below ablations/."""

from pathlib import Path

import pandas as pd

from conan_lib.findings.ablation import ALPHA, Ablation, Estimate
from conan_lib.findings.blocks import Block, Figure, Missing, Table, Text
from conan_lib.findings.curves import CURVES
from conan_lib.findings.files import FOLDER, write
from conan_lib.findings.plots import GREY, PALETTE, Drawing, png, style
from conan_lib.findings.published import PaperTable, published
from conan_lib.findings.run import Run
from conan_lib.findings.scores import METRIC_NAMES
from conan_lib.findings.tables import measured, to_csv, to_markdown
from conan_lib.findings.trained import trained_in
from conan_lib.grids import Grid
from conan_lib.stages import project_root

NOT_REPORTED = "not reported"
"""What a cell says that the paper leaves open."""
HOW = (
    "A number is the mean over seeds. Its 95 % interval covers the choice of queries (bootstrap, the same draw for all cells) and that of "
    "the seed (Student's t); with one seed, of the queries alone. Differences are paired by query and seed; p is two-sided, and corrected "
    "by Holm over the comparisons of one metric in one grid. Where an interval includes zero, the two cells cannot be told apart."
)


def ablation_table(ablation: Ablation) -> pd.DataFrame:
    """Each metric and cell: mean, difference to the baseline, p, seeds, artefacts; cells without a finished seed are left out."""
    rows = []
    for metric in ablation.grid.params.metrics:
        differences = ablation.against(metric)
        for name in ablation.grid.names:
            if (mean := ablation.mean(name, metric)) is None:
                continue
            one = differences.get(name)
            rows.append(
                {"metric": METRIC_NAMES[metric], "cell": name}
                | measured("mean", vars(mean))
                | measured(f"minus {ablation.grid.params.baseline}", vars(one) if one else None)
                | {"p": one.p if one else None, "p corrected": one.corrected if one else None, "seeds": mean.seeds, "artefacts": mean.keys}
            )
    return pd.DataFrame(rows)


def forest(ablation: Ablation) -> Drawing:
    """Each cell minus the baseline with its interval, one panel for each metric; filled where Holm leaves it significant."""
    metrics, baseline = ablation.grid.params.metrics, ablation.grid.params.baseline
    names = [name for name in ablation.grid.names if name != baseline]
    with style():
        drawing = Drawing(figsize=(2.9 * len(metrics) + 1.6, 0.34 * len(names) + 1.3))
        panels = drawing.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for axis, metric in zip(panels, metrics, strict=True):
            axis.axvline(0, color=GREY, linewidth=1)
            for name, one in ablation.against(metric).items():
                place, sure = names.index(name), one.corrected < ALPHA
                colour = PALETTE[0] if one.value >= 0 else PALETTE[1]
                axis.hlines(place, one.low, one.high, color=colour)
                axis.plot(one.value, place, "o", color=colour, markerfacecolor=colour if sure else "white")
            axis.set_title(METRIC_NAMES[metric], fontsize=9)
            axis.locator_params(axis="x", nbins=4)
        panels[0].set_yticks(range(len(names)), names)
        panels[0].set_ylim(len(names) - 0.5, -0.5)
        levels = [f"{metric} {one.value:.3f}" for metric in metrics if (one := ablation.mean(baseline, metric))]
        drawing.supxlabel(
            f"difference to {baseline} ({', '.join(levels)}), 95 % interval\nblue: above it, orange: below; filled: corrected p < {ALPHA}",
            fontsize=9,
        )
        return drawing


def differing(ablation: Ablation) -> str:
    """Which cells differ from the baseline in the first metric of the grid, after the correction."""
    metric, baseline = ablation.grid.params.metrics[0], ablation.grid.params.baseline
    family = ablation.against(metric)
    sure = [f"{name} {one.value:+.3f}" for name, one in family.items() if one.corrected < ALPHA]
    if not sure:
        return f"No cell can be told from {baseline} by the {METRIC_NAMES[metric]}."
    return f"{len(sure)} of {len(family)} cells differ from {baseline} in the {METRIC_NAMES[metric]}: {', '.join(sure)}."


def grid_blocks(run: Run, name: str) -> list[Block]:
    """One grid of this tier: its table and figures, or why there are none and the command that runs it."""
    if name in run.ablations:
        return _blocks(run, run.ablations[name])
    broken = next((file for file in run.broken_grids if Path(file).stem == name), None)
    if broken:
        return [Missing(f"Grid {broken}", run.broken_grids[broken])]
    return [Missing(f"Grid {name}", f"no file below params/grids names tier {run.params.tier}")]


def other_grids(run: Run, placed: tuple[str, ...]) -> list[Block]:
    """The grids that stand in no section of their own, broken files included."""
    names = [*run.ablations, *(Path(file).stem for file in run.broken_grids)]
    return [block for name in names if name not in placed for block in grid_blocks(run, name)]


def with_paper(run: Run, table: PaperTable, grid: str, rows: dict[str, tuple[str, ...]], arms: tuple[str, ...] = ("",)) -> list[Block]:
    """A table of the paper, and the cells of one of our grids in its rows: their own scores, in columns of their own.

    Args:
        grid: its name.
        rows: a row of the paper, or one more of ours -> our cells, one for each of `arms`.
        arms: ends of our columns' names.
    """
    frame, ablation = table.frame, run.ablations.get(grid)
    if ablation is None:
        paper = Table(f"paper_{table.id}", table.caption, frame, ("paper",), NOT_REPORTED, origin="the paper")
        return [paper, Missing(f"Our side of it, grid {grid}", f"no readable params/grids/{grid}.yaml names tier {run.params.tier}")]
    frame.columns = [frame.columns[0], *(f"the paper: {name}" for name in frame.columns[1:])]
    own = [row for row in rows if row not in set(frame.iloc[:, 0]) and any(cell in ablation.grid.names for cell in rows[row])]
    frame = pd.concat([frame, pd.DataFrame({frame.columns[0]: own})], ignore_index=True) if own else frame
    missing = dict.fromkeys(frame.columns, NOT_REPORTED)
    for place, arm in enumerate(arms):
        for metric in ("mean",) if len(arms) > 1 else ablation.grid.params.metrics[:2]:
            name = f"ours: {METRIC_NAMES[metric]}, x 100{arm}"
            missing[name] = "not run"
            means = [_mean(ablation, rows[row][place], metric) for row in frame.iloc[:, 0]]
            frame = frame.join(pd.DataFrame([measured(name, vars(one) if one else None, 100) for one in means]))
    unfinished = {cell.name for cell in ablation.missing} & {cell for cells in rows.values() for cell in cells}
    left = f"; what is not run: `{ablation.grid.command}`" if unfinished else ""
    note = f" Ours: the mean over seeds with its 95 % interval{left}."
    model = trained_in(ablation)
    return [Table(f"paper_{table.id}", table.caption + note, frame, ("paper", ablation.grid.file), missing, decimals=2, model=model)]


def slopes_of_ablation(run: Run) -> Figure | None:
    """The paper's Table 4 beside our cells of the same names; None where no seed of the grid has finished."""
    ablation, paper = run.ablations.get("sm_clr_dhnm"), published()["ablation"]
    rows = {row[0]: (100 * one.value, 100 * one.low, 100 * one.high) for row in paper.rows
            if ablation and (one := _mean(ablation, row[0], "mean"))}  # fmt: skip
    if not rows:
        return None
    theirs = {row[0]: row[1] for row in paper.rows if row[1] is not None}
    drawing = side_by_side(theirs, rows, f"the paper: {paper.columns[1]}", "ours: mean of all tasks' main metrics, x 100")
    best = max(rows, key=lambda name: rows[name][0])
    says = f"Best in the paper: {max(theirs, key=theirs.get)}; best of ours: {best}. An interval covers seeds and queries."
    return Figure("table_4", "Table 4 beside our grid, like for like: the same rows, a scale each.", drawing,
                  ("paper", ablation.grid.file), takeaway=says, numbers={f"paper_{paper.id}": {}}, model=trained_in(ablation))  # fmt: skip


def side_by_side(theirs: dict[str, float], ours: dict[str, tuple[float, float, float]], left: str, right: str) -> Drawing:
    """Two panels of dots, rows shared, a scale each: the paper's numbers, and ours (value, low, high)."""
    names = list(dict.fromkeys((*theirs, *ours)))
    with style():
        drawing = Drawing(figsize=(8.4, 0.3 * len(names) + 1.1))
        one, two = drawing.subplots(1, 2, sharey=True)
        for place, name in enumerate(names):
            if name in theirs:
                one.plot(theirs[name], place, "D", color=PALETTE[1])
            if name in ours:
                value, low, high = ours[name]
                two.hlines(place, low, high, color=PALETTE[0])
                two.plot(value, place, "o", color=PALETTE[0])
        one.set_yticks(range(len(names)), names)
        one.set_ylim(len(names) - 0.5, -0.5)
        one.set_title(left, fontsize=9)
        two.set_title(right, fontsize=9)
        return drawing


def _mean(ablation: Ablation, cell: str, metric: str) -> Estimate | None:
    return ablation.mean(cell, metric) if cell in ablation.grid.names else None


def files_of(ablation: Ablation) -> set[str]:
    """The names, without their ends, of a grid's files below ablations/; none where a report does not draw it."""
    if not ablation.begun:
        return set()
    name, curves = f"ablation_{ablation.grid.params.name}", ablation.grid.params.curves
    return {name, f"{name}_{curves}", f"{name}_steps"} if curves and ablation.traced else {name}


def write_ablation(grid: Grid | Ablation) -> Path:
    """Write ablation_<grid>.csv, .png and .md below runs/<tier>/ablations/ from what has finished; returns the last."""
    ablation = grid if isinstance(grid, Ablation) else Ablation(grid)
    params = ablation.grid.params
    folder = project_root() / ablation.grid.cells[0].params.runtime.reports / params.tier / FOLDER
    table = _table(ablation)
    write(folder / f"{table.id}.csv", to_csv(table))
    pictures = {table.id: forest(ablation)} if len(table.frame["cell"].unique()) > 1 else {}
    if params.curves and (traced := ablation.traced):
        pictures[f"{table.id}_{params.curves}"] = CURVES[params.curves].draw(traced)
        write(folder / f"{table.id}_steps.csv", to_csv(_points(traced)))
    for name, drawing in pictures.items():
        write(folder / f"{name}.png", png(drawing, 130))
    lines = [f"# {params.title}", _status(ablation), HOW, *(f"![{name}]({name}.png)" for name in pictures), to_markdown(table)]
    return write(folder / f"{table.id}.md", "\n\n".join(lines))


def _table(ablation: Ablation) -> Table:
    params = ablation.grid.params
    id, minus = f"ablation_{params.name}", f"minus {params.baseline}"
    return Table(id, f"{params.title}.", ablation_table(ablation), (ablation.grid.file,), "no comparison", differences=(minus,),
                 keys=("artefacts",), model=trained_in(ablation), written=f"{FOLDER}/{id}.csv")  # fmt: skip


def _points(ablation: Ablation) -> Table:
    """The points of a grid's curves, closed on the page."""
    params, id = ablation.grid.params, f"ablation_{ablation.grid.params.name}_steps"
    caption = f"{params.title}. The points of the curves, means over seeds."
    return Table(id, caption, CURVES[params.curves].points(ablation), (ablation.grid.file,), model=trained_in(ablation), folded=True,
                 written=f"{FOLDER}/{id}.csv")  # fmt: skip


def _blocks(run: Run, ablation: Ablation) -> list[Block]:
    grid, params = ablation.grid, ablation.grid.params
    what, stem = f"{params.title}.", f"ablation_{params.name}"
    if not ablation.begun:
        return [Missing(what, ablation.not_run)]
    model = trained_in(ablation)
    table, blocks = _table(ablation), [Text(f"{what} {_status(ablation)} Model: {model}.")]
    if len(table.frame["cell"].unique()) > 1:
        caption = f"{what} Differences to {params.baseline}: blue above it, orange below; filled where Holm leaves it."
        picture, says = f"{FOLDER}/{stem}.png", differing(ablation)
        blocks.append(Figure(stem, caption, forest(ablation), (grid.file,), picture, None, says, {stem: {}}, model))
    if params.curves and (traced := ablation.traced):
        curves, id, points = CURVES[params.curves], f"{stem}_{params.curves}", _points(traced)
        caption, file = f"{what} {curves.caption}; the band is the range of the seeds.", f"{FOLDER}/{id}.png"
        blocks.append(Figure(id, caption, curves.draw(traced), (grid.file,), file, None, curves.takeaway(traced), {points.id: {}}, model))
        blocks.append(points)
    return [*blocks, table]


def _status(ablation: Ablation) -> str:
    """What has finished and what has not."""
    cells, missing = ablation.grid.cells, ablation.missing
    without = f" No task measures {', '.join(ablation.unmeasured)}." if ablation.unmeasured else ""
    if not missing:
        seeds = ", ".join(map(str, ablation.grid.params.seeds))
        return f"All {len(cells)} runs finished ({len(ablation.grid.names)} cells, seeds {seeds}).{without}"
    names = ", ".join(map(str, missing[:6])) + (f" and {len(missing) - 6} more" if len(missing) > 6 else "")
    return f"{len(cells) - len(missing)} of {len(cells)} runs finished; not run: {names}: `{ablation.grid.command}`.{without}"
