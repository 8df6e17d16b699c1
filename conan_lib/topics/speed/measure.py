"""Stage efficiency: what a smaller vector costs in quality, and how fast each system encodes, side by side (the paper's Table 5)."""

import random
from collections.abc import Callable

from conan_lib.data.records import read
from conan_lib.evaluation.checkpoints import checkpoint_encoder
from conan_lib.evaluation.encoder import Encoder, load_sentence_transformer
from conan_lib.evaluation.peers import PEER_ENCODERS
from conan_lib.evaluation.tasks import load_tasks
from conan_lib.files import write_json
from conan_lib.model.backbone import count_parameters, random_encoder
from conan_lib.params.evaluation import SizeParams
from conan_lib.stages import Stage, computes
from conan_lib.topics.speed.quality import DOCUMENTS, curve
from conan_lib.topics.speed.timing import fitting, rates, take_turns

MODELS = ("weak", "supervised")
"""Ours whose vectors are cut and quantised: trained without prefixes of the vector, and with them."""
OURS = "supervised"
MRL_PEERS = frozenset(("wordllama",))
"""Peers whose authors trained prefixes of the vector to serve alone."""


@computes
def measure_efficiency(stage: Stage) -> dict:
    """Write quality.json (recall by channels and precision) and speed.json (texts per second of ours, of other sizes of ours, of peers).

    quality.json is empty where the tasks are a suite of the hub. Killed and run again, the stage starts anew: it takes seconds.

    Raises:
        UserError: a model or the tasks are missing, or a peer's package is.
    """
    encoders = {name: checkpoint_encoder(stage, name, stage.efficiency.batch_size) for name in MODELS}
    quality, speed = _quality(stage, encoders), _speed(stage, encoders[OURS])
    write_json(stage.path / "quality.json", quality)
    write_json(stage.path / "speed.json", speed)
    return {"documents": DOCUMENTS, "texts_per_second": {row["model"]: round(row["rate"], 1) for row in speed}}


def _quality(stage: Stage, encoders: dict[str, Encoder]) -> list[dict]:
    """The cross-lingual task and the first monolingual retrieval task, for each model."""
    if stage.tasks.suite != "embedded":
        return []
    tasks = load_tasks(stage.inputs["heldout"].path, stage.tasks)
    chosen = filter(None, (next((task for task in tasks if task.kind == kind), None) for kind in ("crosslingual", "retrieval")))
    return [
        {"model": name, **row}
        for task in chosen
        for name, encoder in encoders.items()
        for row in curve(encoder, task, stage.efficiency.dims, stage.tasks)
    ]


def _speed(stage: Stage, ours: Encoder) -> list[dict]:
    """Rows {model, kind, parameters, embedding_parameters, dim, max_tokens, mrl, threads, device, texts, rate, low, high, ratio,
    ratio_low, ratio_high, repeats}: `rate` is in texts per second, `ratio` is to ours in the same round; `texts` is how many a call had;
    `device` is where ours ran."""
    params = stage.efficiency
    rows = [row["text"] for row in read(stage.inputs["heldout"].path / "mixing.parquet")]
    texts = random.Random(0).sample(rows, min(params.texts, len(rows)))  # so that any first n of them are in all languages
    prefixes = len(stage.inputs[OURS].supervised.matryoshka_dims) > 1
    systems: dict[str, tuple[Callable, dict]] = {OURS: (ours.raw, facts_of(ours, "ours", prefixes))}
    systems |= {name: _random(stage, size) for name, size in params.sizes.items()}
    for name in PEER_ENCODERS if params.peers is None else params.peers:
        peer = PEER_ENCODERS[name](stage.runtime.threads)
        systems[name] = peer.raw, facts_of(peer, "peer", name in MRL_PEERS)
    n = {name: fitting(lambda n, e=encode: e(texts[:n]), len(texts), params.call_seconds, "cpu") for name, (encode, _) in systems.items()}
    calls = {name: lambda e=encode, own=texts[: n[name]]: e(own) for name, (encode, _) in systems.items()}
    found = rates(take_turns(calls, params.repeats, "cpu", seed=0), n, OURS)  # every encoder returns numpy: nothing is left to wait for
    ran = {"threads": stage.runtime.threads, "device": stage.device}
    return [{"model": name, **facts, **ran, "texts": n[name], **found[name]} for name, (_, facts) in systems.items()]


def facts_of(encoder: Encoder, kind: str, mrl: bool) -> dict:
    """What the practical table says of a system besides its speed."""
    meta = encoder.mteb_model_meta
    read = (meta.experiment_kwargs or {}).get("max_length", meta.max_tokens)  # some peers are cut shorter than they could read
    return {"kind": kind, "parameters": meta.n_parameters, "embedding_parameters": meta.n_embedding_parameters, "dim": meta.embed_dim,
            "max_tokens": None if read is None else int(read), "mrl": mrl}  # fmt: skip


def _random(stage: Stage, size: SizeParams) -> tuple[Callable, dict]:
    """Our supervised model with another backbone in its place: the same tokenizer, pooling and code."""
    model = load_sentence_transformer(stage.inputs[OURS].path / "model", stage.tasks.max_length, stage.device)
    model[0].model = random_encoder(size, size.vocab_size, device=model.device.type)
    facts = {"kind": "random weights", "parameters": count_parameters(size, size.vocab_size),
             "embedding_parameters": size.vocab_size * size.hidden_size, "dim": size.hidden_size, "max_tokens": stage.tasks.max_length,
             "mrl": None}  # fmt: skip
    return lambda texts: model.encode(texts, batch_size=stage.efficiency.batch_size, show_progress_bar=False), facts
