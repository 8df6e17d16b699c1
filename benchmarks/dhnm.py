"""What dynamic hard negatives cost: the time of a training step with and without them, side by side.

    python -m benchmarks.dhnm params/tiny.yaml --steps 60

Writes dhnm.json below benchmarks/results/<device>/. Needs the finished stages before `supervised` of that file. Both arms train the same
batches of retrieval and CLR with as many negatives: `with` asks the pool for those in use, gives it the scores and lets the rule of the
file replace; `without` has the first n candidates as plain texts. A step is what the trainer does: the batch, forward, backward, update.
Arms take turns in going first, and the figure is the median over steps of with / without. The target is at most 1.03.
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from tqdm import tqdm

from benchmarks.results import command, folder_of, where
from conan_lib.errors import UserError
from conan_lib.files import write_json
from conan_lib.stages import Stage, open_stage
from conan_lib.training.batch_loss import ContrastiveLoss
from conan_lib.training.batches import TaskBatchSampler, TaskCollator
from conan_lib.training.contrastive import supervised_rows
from conan_lib.training.embedder import build_tasks
from conan_lib.training.mine import load_pools
from conan_lib.training.tasks import TASKS

WARM_UP = 5


class Arm:
    """One model and its batches; `step` trains one and returns its seconds."""

    def __init__(self, stage: Stage, dynamic: bool):
        section, pools = stage.supervised, load_pools(stage)
        rows = {name: own for name, own in supervised_rows(stage).items() if TASKS[name].negatives == "pool"}
        candidates, texts, tasks = pools.candidates, pools.texts, build_tasks(rows, section, pools)
        pool = pools.negatives(section) if dynamic else None
        if not dynamic:
            first = [[texts[row] for row in rows] for rows in candidates[:, : section.hard_negatives].tolist()]
            tasks = [replace(task, rows=[row | {"negatives": first[row["pool"]]} for row in task.rows]) for task in tasks]
        self.tasks = tasks
        self.model = SentenceTransformer(str(stage.inputs["weak"].path / "model"), device=stage.device).train()
        self.model[0].model.config.is_causal = False
        self.loss = ContrastiveLoss(self.model, tasks, section.temperature, dims=section.matryoshka_dims, pool=pool)
        in_use = (lambda pool_ids: [[texts[row] for row in rows] for rows in pool.draw(pool_ids).tolist()]) if dynamic else None
        self.collator = TaskCollator(tasks, self.model.tokenizer, section.max_length, in_use)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=section.learning_rate)

    def step(self, items: list[dict[str, int]]) -> float:
        start = time.perf_counter()
        batch = self.collator.complete(self.collator(items))
        batch = {name: value.to(self.model.device) for name, value in batch.items() if name != "label"} | {
            "label": {name: value.to(self.model.device) for name, value in batch["label"].items()}
        }
        chunks = [name.removesuffix("_input_ids") for name in batch if name.endswith("_input_ids")]
        features = [{name: batch[f"{chunk}_{name}"] for name in ("input_ids", "attention_mask")} for chunk in chunks]
        self.loss(features, batch["label"]).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start


def measure(stage: Stage, steps: int) -> dict[str, float]:
    """Medians over the steps: milliseconds of a step in each arm, and their ratio step by step with its quartiles."""
    arms = {"with": Arm(stage, True), "without": Arm(stage, False)}
    tasks = arms["with"].tasks
    flat = [{"task": number, "row": row} for number, task in enumerate(tasks) for row in range(len(task.rows))]
    times: dict[str, list[float]] = {name: [] for name in arms}
    batches = TaskBatchSampler(tasks, WARM_UP + steps, stage.supervised.seed)
    for number, rows in enumerate(tqdm(batches, total=WARM_UP + steps, unit="step")):
        for name in sorted(arms, reverse=number % 2 == 0):
            seconds = arms[name].step([flat[row] for row in rows])
            if number >= WARM_UP:
                times[name].append(1000 * seconds)
    ratios = [a / b for a, b in zip(times["with"], times["without"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    medians = {f"ms_{name}": statistics.median(own) for name, own in times.items()}
    return {"steps": steps, **medians, "ratio_q1": low, "ratio": middle, "ratio_q3": high, "swaps": arms["with"].loss.pool.swaps}


def main(arguments: list[str] | None = None) -> Path:
    """Measure and write dhnm.json. Returns its path."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dhnm", description=__doc__.splitlines()[0])
    parser.add_argument("params")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", type=Path, help="folder in the place of benchmarks/results/<device>")
    chosen = parser.parse_args(arguments)
    stage = open_stage("supervised", chosen.params)
    if missing := [name for name in ("sets", "weak", "mine") if not stage.inputs[name].finished]:
        raise UserError(f"{chosen.params}: not finished: {', '.join(missing)}: run `conan-lib run {chosen.params} --to mine` first")
    torch.set_num_threads(stage.runtime.threads)
    found = measure(stage, chosen.steps)
    facts = {
        "params": chosen.params,
        "pools": f"mine/{stage.inputs['mine'].key}",
        "seed": stage.supervised.seed,
        "rule": stage.supervised.dhnm.rule,
        "hard_negatives": stage.supervised.hard_negatives,
        **where(stage.device, stage.runtime.threads),
        "packages": {name: version(name) for name in ("torch", "transformers", "sentence-transformers")},
    }
    folder = folder_of(facts["device"], chosen.out)
    write_json(folder / "dhnm.json", {**facts, **found})
    print(json.dumps(found, indent=1))
    return folder / "dhnm.json"


if __name__ == "__main__":
    command(main)
