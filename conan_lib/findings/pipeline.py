"""The picture of the stages, at the top of the report."""

from conan_lib.findings.plots import GREY, PALETTE, PAPER, Drawing, style
from conan_lib.table import CHECKPOINTS, RUN, TABLE


def pipeline() -> Drawing:
    """The table of stages as a graph: each stands before what is made from it, what is measured stands last. Arrows that follow from others
    are left out."""
    depth, before = {}, {}
    for name in RUN:
        inputs = [other for other in TABLE[name].inputs if other in depth]
        depth[name] = max((depth[other] + 1 for other in inputs), default=0)
        before[name] = set(inputs).union(*(before[other] for other in inputs))
    for name in reversed(RUN):
        depth[name] = min((depth[other] - 1 for other in RUN if name in TABLE[other].inputs), default=max(depth.values()))
    columns = [[name for name in RUN if depth[name] == place] for place in range(max(depth.values()) + 1)]
    for names in columns:
        names.sort(key=lambda name: (name not in CHECKPOINTS, -len(before[name])))
    places = {name: (x, -row) for x, names in enumerate(columns) for row, name in enumerate(names)}
    box = {"boxstyle": "round,pad=0.35", "facecolor": PAPER, "linewidth": 1.6}
    arrow = {"arrowstyle": "-|>", "color": GREY, "linewidth": 1, "shrinkA": 1, "shrinkB": 1}
    with style():
        drawing = Drawing(figsize=(1.6 * len(columns), 0.42 * max(map(len, columns)) + 0.1))
        axis = drawing.subplots()
        axis.set(xlim=(-0.5, len(columns) - 0.5), ylim=(0.5 - max(map(len, columns)), 0.5))
        axis.set_axis_off()
        boxes = {}
        for name, (x, y) in places.items():
            colour = PALETTE[0] if name in CHECKPOINTS else PALETTE[2] if TABLE[name].notebook < "07" else PALETTE[1]
            label = f"{TABLE[name].notebook[:2]} {name.replace('supervised_no_', 'no ')}"
            drawn = axis.text(x, y, label, ha="center", va="center", fontsize=9, bbox=box | {"edgecolor": colour}, zorder=2)
            boxes[name] = drawn.get_bbox_patch()
        for name, place in places.items():
            for other in (other for other in TABLE[name].inputs if other in before[name]):
                if not any(other in before[closer] for closer in TABLE[name].inputs if closer in before):
                    bend = 0.15 if place[0] - places[other][0] > 1 else 0  # around the boxes between
                    ends = {"patchA": boxes[other], "patchB": boxes[name], "connectionstyle": f"arc3,rad={bend}"}
                    axis.annotate(
                        "", place, places[other], arrowprops=arrow | ends, zorder=3
                    )  # after the boxes, which have their places then
        return drawing
