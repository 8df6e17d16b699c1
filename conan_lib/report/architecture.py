"""Architecture: the paper's sizes and ours, and where every parameter sits, counted on models without storage."""

import pandas as pd
from transformers import PreTrainedConfig

from conan_lib.model.backbone import configuration, parameter_audit
from conan_lib.params.model import BackboneParams, TokenizerParams
from conan_lib.report.beside import UNPUBLISHED
from conan_lib.report.blocks import Block, Table, Text
from conan_lib.report.paper import PARAMETERS, SIZES
from conan_lib.report.run import Run

FORMULA = {
    "embeddings": "vocabulary x hidden; the output head shares them",
    "attention": "layers x (2 x hidden x heads x head_dim + 2 x hidden x KV heads x head_dim)",
    "feed_forward": "layers x 3 x hidden x FFN",
    "norms": "(2 x layers + 1) x hidden",
    "head": "none of its own where it is tied",
}


def blocks(run: Run) -> list[Block]:
    """The sizes side by side, then the audit."""
    backbone, tier = run.backbone, run.params.tier
    own = (backbone.num_hidden_layers, backbone.hidden_size, backbone.num_attention_heads,
           getattr(backbone, "num_key_value_heads", backbone.num_attention_heads), backbone.intermediate_size,
           backbone.max_position_embeddings, backbone.vocab_size, run.params.weak.pooling, _rope_base(backbone))  # fmt: skip
    sizes = pd.DataFrame(
        [(*row, ours) for row, ours in zip(SIZES.rows, own, strict=True)], columns=["size", "the paper", tier], dtype=object
    )
    audits = {"the paper's sizes": parameter_audit(configuration(BackboneParams(), TokenizerParams().vocab_size)),
              tier: parameter_audit(backbone)}  # fmt: skip
    rows = [(part.replace("_", " "), formula, *(audit[part] for audit in audits.values())) for part, formula in FORMULA.items()]
    rows.append(("all", "sum", *(sum(audit.values()) for audit in audits.values())))
    rows.append(("published", "public leaderboard; 1503M in Table 5, 1.4B in the text", PARAMETERS, None))
    audit = pd.DataFrame(rows, columns=["part", "parameters", *audits], dtype=object)
    trained = run.results("pretrain").get("parameters")
    counted = ("conan_lib.model.backbone", run.params_file)
    said = f"Stage pretrain trained {trained:,} parameters." if trained else run.unfinished("pretrain") or "Stage pretrain counted none."
    return [
        Text(
            "A Llama: grouped-query attention, rotary positions, RMSNorm, a gated feed-forward network, no biases. Its code and weights "
            "are not published. The sizes are, and with head_dim 112, three feed-forward matrices and one tied embedding matrix they give "
            f"the leaderboard's count to the unit. {said}"
        ),
        Table("sizes", f"Sizes of the paper and of tier {tier}.", sizes, ("paper", run.params_file), UNPUBLISHED),
        Table("parameter_audit", "Where the parameters are, counted on the meta device.", audit, counted, UNPUBLISHED),
    ]


def _rope_base(config: PreTrainedConfig) -> str | int:
    """The base of the rotary positions; several where kinds of layers have their own."""
    found = config.rope_parameters
    own = [found] if "rope_theta" in found else [one for one in found.values() if one]
    bases = list(dict.fromkeys(int(one["rope_theta"]) for one in own))
    return bases[0] if len(bases) == 1 else ", ".join(map(str, bases))
