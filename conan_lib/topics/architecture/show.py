"""The paper's sizes and ours, and where every parameter sits, counted on models without storage."""

import pandas as pd
from transformers import PreTrainedConfig

from conan_lib.findings.blocks import Table
from conan_lib.findings.grids import NOT_REPORTED
from conan_lib.findings.published import parameters, published
from conan_lib.findings.run import Run
from conan_lib.model.backbone import configuration, parameter_audit
from conan_lib.params.model import BackboneParams, TokenizerParams

FORMULA = {
    "embeddings": "vocabulary x hidden; the output head shares them",
    "attention": "layers x (2 x hidden x heads x head_dim + 2 x hidden x KV heads x head_dim)",
    "feed_forward": "layers x 3 x hidden x FFN",
    "norms": "(2 x layers + 1) x hidden",
    "head": "none of its own where it is tied",
}


def show(run: Run) -> dict:
    tier, trained = run.params.tier, run.results("pretrain").get("parameters")
    counted = f"The model has {trained:,} parameters." if trained else "Stage pretrain counted none."
    return {
        "trained": run.unfinished("pretrain") or counted,
        "sizes": Table("sizes", f"Sizes of the paper and of tier {tier}.", sizes(run), ("paper", run.params_file), NOT_REPORTED),
        "audit": Table("parameter_audit", "Where the parameters are, counted on the meta device.", audit(run),
                       ("conan_lib.model.backbone", run.params_file), NOT_REPORTED),
    }  # fmt: skip


def sizes(run: Run) -> pd.DataFrame:
    """Each size of the paper and the run's own."""
    one = run.backbone
    own = (one.num_hidden_layers, one.hidden_size, one.num_attention_heads, getattr(one, "num_key_value_heads", one.num_attention_heads),
           one.intermediate_size, one.max_position_embeddings, one.vocab_size, run.params.weak.pooling, _rope_base(one))  # fmt: skip
    return published()["sizes"].frame.assign(**{run.params.tier: pd.Series(own, dtype=object)})


def audit(run: Run) -> pd.DataFrame:
    """Parameters by part: the formula, the count at the paper's sizes and at the run's."""
    audits = {"the paper's sizes": parameter_audit(configuration(BackboneParams(), TokenizerParams().vocab_size)),
              run.params.tier: parameter_audit(run.backbone)}  # fmt: skip
    rows = [(part.replace("_", " "), formula, *(found[part] for found in audits.values())) for part, formula in FORMULA.items()]
    rows.append(("all", "sum", *(sum(found.values()) for found in audits.values())))
    rows.append(("published", "public leaderboard; 1503M in Table 5, 1.4B in the text", parameters(), None))
    return pd.DataFrame(rows, columns=["part", "parameters", *audits], dtype=object)


def _rope_base(config: PreTrainedConfig) -> str | int:
    """The base of the rotary positions; several where kinds of layers have their own."""
    found = config.rope_parameters
    own = [found] if "rope_theta" in found else [one for one in found.values() if one]
    bases = list(dict.fromkeys(int(one["rope_theta"]) for one in own))
    return bases[0] if len(bases) == 1 else ", ".join(map(str, bases))
