"""The four stages of training: recipe, losses, bits per byte, generations."""

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from conan_lib.data.packing import Blocks
from conan_lib.findings.blocks import Table, figure, table
from conan_lib.findings.grids import NOT_REPORTED
from conan_lib.findings.plots import GREY, PALETTE, Drawing, language_colours, nothing, series, style
from conan_lib.findings.published import published
from conan_lib.findings.run import Run
from conan_lib.findings.tables import cut
from conan_lib.stages import Stage

PACKED = {True: "A token sees the past of its own document, and nothing of its neighbours in the block.",
          False: "A token sees all that stands before it in the block, other documents too."}  # fmt: skip


def show(run: Run) -> dict:
    losses = "InfoNCE loss (thin: each row, thick: running mean) and alpha over steps."
    bits, by_task = "Held-out bits per byte by language, before and after.", "Loss by task (thin: each row, thick: running mean)."
    generations = "Greedy outputs of held-out records."
    return {
        "recipe": recipe(run),
        "pretraining": []
        if run.params.pretrain is None
        else [
            figure(
                run,
                "packing",
                "Packed documents do not attend to each other.",
                ("pretrain",),
                packed_block,
                lambda stage: PACKED[stage.pretrain is None or stage.pretrain.document_mask],
            ),
            figure(run, "pretrain_loss", "Loss and learning rate.", ("pretrain",), training_loss, falls),
        ],
        "pretrain_bits": figure(
            run,
            "pretrain_bits",
            "Held-out bits per byte, before and after.",
            ("pretrain",),
            bits_per_byte,
            bits_fall,
            {"bits_per_byte": {}},
        ),
        "pretrain_table": table(run, "bits_per_byte", bits, ("pretrain",), bits_table, differences=("change",)),
        "sft_bits": table(run, "sft_bits", bits, ("sft",), bits_table, differences=("change",)),
        "generations": table(run, "generations", generations, ("sft",), generations_table, "empty", folded=True),
        "weak_loss": figure(run, "weak_loss", losses, ("weak",), contrastive_loss, first_and_last, {"weak_losses": {"task": "all"}}),
        "weak_losses": table(run, "weak_losses", "First and last loss.", ("weak",), loss_table),
        "supervised_loss": figure(
            run, "supervised_loss", by_task, ("supervised",), contrastive_loss, what_the_loss_shows, {"supervised_losses": {}}
        ),
        "visits": visits(run),
        "supervised_losses": table(run, "supervised_losses", "First and last loss by task.", ("supervised",), loss_table),
        "rising": rising(run),
    }


def recipe(run: Run) -> Table:
    """The published settings and ours: the same settings, so side by side."""
    paper, tier = published()["recipe"], run.params.tier
    frame = paper.frame.assign(**{tier: [_parameter(run, name) for name in paper.frame["setting"]]})
    return Table("paper_recipe", paper.caption, frame, ("paper", run.params_file), {"the paper": NOT_REPORTED, tier: "not set"})


def _parameter(run: Run, path: str) -> object:
    value: object = run.params.model_dump(mode="json")
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def loss_by_visit(stage: Stage) -> pd.DataFrame:
    """Stage `supervised`: a task's loss over its visits to the same anchors: the last steps of one visit, and the first of the next.

    A visit is as many steps as the task's rows fill batches; a task whose anchors do not come again has no row. "End" and "start" are a
    tenth of a visit's steps.
    """
    results, sizes, table = stage.results, stage.supervised.task_batch_size, []
    for task, rows in results.get("rows", {}).items():
        losses = [row["loss"] for row in series(stage) if row.get("task") == task and row.get("loss") is not None]
        visit = rows // sizes[task]
        few = max(1, visit // 10)
        for number in range(1, len(losses) // max(1, visit) + 1):
            again = losses[number * visit : (number + 1) * visit]
            if visit and len(again) >= few:
                ends = losses[number * visit - few : number * visit]
                table.append({"task": task, "visit": number + 1, "steps a visit": visit, "end of the visit before": float(np.mean(ends)),
                              "start of this visit": float(np.mean(again[:few])), "mean of this visit": float(np.mean(again))})  # fmt: skip
    return pd.DataFrame(table)


def visits(run: Run) -> Table | str:
    """The table of losses by visit; empty where no anchor comes again."""
    if not run.finished("supervised") or (frame := loss_by_visit(run.stages["supervised"])).empty:
        return ""
    caption = "Loss (nats) when anchors come again: a tenth of a visit's steps at its end, and at the start of the next."
    return Table("loss_by_visit", caption, frame, (run.key("supervised"),), decimals=2)


def what_the_loss_shows(stage: Stage, fall: float = 0.75) -> str:
    """The sentence above the losses: a loss that falls at once when its anchors come again has been memorised."""
    frame = loss_by_visit(stage)
    if frame.empty:
        return "No task sees its anchors twice, so a falling loss is no memorisation."
    again = frame[frame["start of this visit"] < fall * frame["end of the visit before"]]
    if again.empty:
        return "No loss falls at once when its anchors come again."
    falls = "; ".join(f"{row.task} from {row[4]:.1f} to {row[5]:.1f} at visit {row.visit}" for row in again.itertuples())
    return f"Memorisation: the loss falls at once when the same anchors come again ({falls}). It says nothing about new queries."


def rising(run: Run) -> list[str]:
    """The tasks that the supervised stage did not learn: their loss is higher at its end."""
    found, steps = run.results("supervised").get("loss") or {}, run.results("supervised").get("steps") or {}
    return [
        f"{task} from {loss['first']:.1f} to {loss['last']:.1f} in {steps.get(task, '?')} of {run.params.supervised.max_steps} steps"
        for task, loss in found.items()
        if loss["last"] > loss["first"]
    ]


def packed_block(stage: Stage, lengths: tuple[int, ...] = (7, 4, 9, 6)) -> Drawing:
    """Stage `pretrain`: which tokens a token sees in a block of short documents, by the mask that transformers builds from positions."""
    import torch
    from transformers import LlamaConfig
    from transformers.masking_utils import create_causal_mask

    size = sum(lengths)
    block = Blocks([[1] * length for length in lengths], size, stage.pretrain is None or stage.pretrain.document_mask)[0:1]
    config = LlamaConfig(hidden_size=8, num_attention_heads=1)
    config._attn_implementation = "sdpa"
    states, positions = torch.zeros(1, size, config.hidden_size), block.get("position_ids", torch.arange(size)[None])
    mask = create_causal_mask(config, states, attention_mask=None, past_key_values=None, position_ids=positions)
    sees = torch.ones(size, size).tril() if mask is None else mask[0, 0].float()
    with style():
        drawing = Drawing(figsize=(4.4, 3.9))
        axis = drawing.subplots()
        axis.imshow(sees, cmap=matplotlib.colors.ListedColormap(["#e9edf1", PALETTE[0]]), vmin=0, vmax=1)
        for end in np.cumsum(lengths)[:-1]:
            axis.axhline(end - 0.5, color=PALETTE[1], linewidth=1)
            axis.axvline(end - 0.5, color=PALETTE[1], linewidth=1)
        middles = np.cumsum(lengths) - np.array(lengths) / 2 - 0.5
        axis.set(xlabel="token that is seen", ylabel="token that sees", title=f"{len(lengths)} documents in one block of {size} tokens")
        axis.set_xticks(middles, [f"doc {i + 1}" for i in range(len(lengths))])
        axis.set_yticks(middles, [f"doc {i + 1}" for i in range(len(lengths))])
        axis.grid(False)
        return drawing


def falls(stage: Stage) -> str:
    """The loss of the first and the last step."""
    rows = series(stage)
    return f"The loss goes from {rows[0]['loss']:.2f} to {rows[-1]['loss']:.2f} nats per token in {rows[-1]['step']:,} steps."


def bits_fall(stage: Stage) -> str:
    """In how many languages bits per byte of held-out text fall."""
    found = stage.results["bits_per_byte"].values()
    if all(row["after"] == row["before"] for row in found):
        return "No step was trained: before and after are the same."
    fall = sum(row["after"] < row["before"] for row in found)
    return f"Bits per byte of held-out text fall in {fall} of {len(found)} languages."


def first_and_last(stage: Stage) -> str:
    """Stage `weak`: its first and last loss, beside that of a guess."""
    loss = stage.results.get("loss")
    if not loss:
        return "No set has pairs for this stage: the model passes through it."
    guess = f"; a guess among {stage.weak.batch_size} passages has {np.log(stage.weak.batch_size):.1f}"
    return f"InfoNCE goes from {loss['first']:.2f} to {loss['last']:.2f} nats while the mask opens{guess}."


def training_loss(stage: Stage) -> Drawing:
    """Stages `pretrain` and `sft`: loss and learning rate over steps; a running mean of a twentieth of the steps, where that is several."""
    rows = series(stage)
    if not rows:
        return nothing("the start passes through: no step was trained")
    steps, losses = [row["step"] for row in rows], np.array([row["loss"] for row in rows])
    window = max(1, len(losses) // 20)
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    with style():
        drawing = Drawing(figsize=(8.4, 2.9))
        loss, rate = drawing.subplots(1, 2, width_ratios=(2, 1))
        if window > 1:
            loss.plot(steps, losses, color=PALETTE[0], alpha=0.35, linewidth=0.9, label="each step")
            loss.plot(steps[window - 1 :], smooth, color=PALETTE[0], label=f"mean of the last {window} steps")
        else:
            loss.plot(steps, losses, color=PALETTE[0], marker=".", label="each step")
        loss.set(title="next-token loss", xlabel="optimiser step", ylabel="loss (nats per token)")
        loss.legend()
        rate.plot(steps, [row["learning_rate"] for row in rows], color=PALETTE[1])
        rate.set(title="learning rate", xlabel="optimiser step", ylim=(0, None))
        rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        for axis in (loss, rate):
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        return drawing


def bits_per_byte(stage: Stage) -> Drawing:
    """Stages `pretrain` and `sft`: bits per byte of held-out text before and after, by language, the best compressed first."""
    found = sorted(stage.results["bits_per_byte"].items(), key=lambda item: item[1]["after"])
    if not found:
        return nothing("there is too little held-out text to measure bits per byte")
    places = range(len(found))
    with style():
        drawing = Drawing(figsize=(7.2, 0.28 * len(found) + 1.1))
        axis = drawing.subplots()
        for place, (_, bits) in zip(places, found, strict=True):
            axis.plot([bits["before"], bits["after"]], [place, place], color=GREY, linewidth=1.2, zorder=1)
        axis.scatter([bits["before"] for _, bits in found], places, color=GREY, label="before", zorder=2)
        axis.scatter([bits["after"] for _, bits in found], places, color=PALETTE[0], label="after", zorder=2)
        axis.set(xlabel="bits per byte of held-out text: lower is better", yticks=places, yticklabels=[language for language, _ in found])
        axis.set_xlim(0, None)
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        return drawing


def contrastive_loss(stage: Stage) -> Drawing:
    """Loss over steps of a contrastive stage, with alpha of the soft mask where it was logged.

    A panel for each task, since losses of different tasks do not compare; the languages of the weak stage share one."""
    rows = [row for row in series(stage) if row.get("loss") is not None]
    if not rows:
        return nothing("no set has pairs for this stage: the model passes through it")
    tasks = sorted({row.get("task") or "loss" for row in rows})
    alphas = [(row["step"], row["alpha"]) for row in series(stage) if row.get("alpha") is not None]
    shared = all(task.startswith("weak ") for task in tasks)
    panels = 1 if shared else len(tasks)
    columns = min(panels, 3)
    with style():
        drawing = Drawing(figsize=(3.1 * columns + (3.4 if alphas else 0.6), (3.2 if shared else 2.5) * -(-panels // columns)))
        axes = list(drawing.subplots(-(-panels // columns), columns, squeeze=False).flat)
        places = axes[:1] * len(tasks) if shared else axes
        own = language_colours([task.removeprefix("weak ") for task in tasks]).values() if shared else np.resize(PALETTE, len(tasks))
        for colour, task, axis in zip(own, tasks, places, strict=False):
            steps, losses = np.array([(r["step"], r["loss"]) for r in rows if (r.get("task") or "loss") == task]).T
            axis.plot(steps, losses, color=colour, alpha=0.3, linewidth=0.9)
            axis.plot(steps, _running_mean(losses), color=colour, label=task.removeprefix("weak "), marker="." if shared else "")
            title = "InfoNCE by language" if shared else "InfoNCE" if task == "loss" else task
            axis.set(title=title, xlabel="optimiser step", ylabel="loss (nats)", ylim=(0, None))
        if shared:
            drawing.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
        if alphas:
            mask = axes[0].twinx()  # one plot: what the loss does as the mask opens
            mask.plot(*zip(*alphas, strict=True), color=GREY, linestyle="--")
            mask.set(ylabel="soft mask's alpha, dashed", ylim=(-0.03, 1.05))
            mask.grid(False)
            mask.spines["right"].set_visible(True)
        for axis in axes[panels:]:
            axis.set_axis_off()
        return drawing


def bits_table(stage: Stage) -> pd.DataFrame:
    """Held-out bits per byte by language, before and after the stage, and their difference; then the mean over languages."""
    table = pd.DataFrame(stage.results["bits_per_byte"], index=["before", "after"]).T.rename_axis("language").reset_index()
    table.loc[len(table)] = {"language": "mean"} | table[["before", "after"]].mean().to_dict()
    table["change"] = table["after"] - table["before"]
    return table


def generations_table(stage: Stage, characters: int = 160) -> pd.DataFrame:
    """Greedy outputs of held-out records before and after instruction tuning, each text cut to `characters`."""
    columns = ["lang", "instruction", "input", "output", "before", "after"]
    rows = [{name: cut(row.get(name), characters) for name in columns} for row in series(stage, "generations.json")]
    return pd.DataFrame(rows, columns=columns).rename(columns={"lang": "language", "output": "expected"})


def loss_table(stage: Stage) -> pd.DataFrame:
    """First and last loss of a contrastive stage, by task where it has several."""
    losses = stage.results["loss"]
    by_task = {"all": losses} if "first" in losses else losses
    return pd.DataFrame([{"task": task, "first loss": loss["first"], "last loss": loss["last"]} for task, loss in by_task.items()])


def _running_mean(values: Sequence[float], share: float = 0.06) -> np.ndarray:
    """Centred mean over a window of `share` of the series, shorter at its ends."""
    values, half = np.asarray(values, dtype=float), max(1, int(len(values) * share / 2))
    return np.array([values[max(0, i - half) : i + half + 1].mean() for i in range(len(values))])
