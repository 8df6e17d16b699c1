"""The soft mask on your own sentence: M at an alpha, and how far each token's state moves."""

from functools import lru_cache
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer

from conan_lib.attention import mask_matrix, set_soft_mask
from conan_lib.findings.plots import PALETTE, Drawing, style
from conan_lib.model.backbone import to_sentence_transformer
from conan_lib.stages import Stage


def opened(weak: Stage, text: str, alpha: float = 0.1, ratio: str = "l/i") -> Drawing:
    """M over the tokens of a text, and ‖h_α − h_causal‖ / ‖h_causal‖ of each token's last hidden state.

    The model is the one that the weak stage starts from; nothing is trained, the mask alone moves.

    Raises:
        UserError: stage sft has not finished, or alpha is outside 0..1.
    """
    encoder = _encoder(weak.needs("sft") / "model", weak.weak.max_length)
    model, tokenizer = encoder[0].model.eval(), encoder.tokenizer
    batch = tokenizer([text], truncation=True, max_length=weak.weak.max_length, return_tensors="pt")
    batch = {name: batch[name] for name in ("input_ids", "attention_mask")}
    set_soft_mask(model, reading="weight", ratio=ratio)
    with torch.inference_mode():
        causal, moved = (model(**batch, soft_mask_alpha=a, use_cache=False).last_hidden_state[0] for a in (0.0, alpha))
    shift = (100 * (moved - causal).norm(dim=-1) / causal.norm(dim=-1)).tolist()
    tokens = [tokenizer.decode([token]).strip() or "␣" for token in batch["input_ids"][0].tolist()]
    places = range(1, len(tokens) + 1)
    with style():
        drawing = Drawing(figsize=(10.2, 0.6 + max(2.8, 0.19 * len(tokens))))
        mask, states = drawing.subplots(1, 2, sharey=True)
        image = mask.imshow(mask_matrix(alpha, batch["attention_mask"], ratio)[0].numpy(), vmin=0, vmax=1, cmap="cividis",
                            extent=(0.5, len(tokens) + 0.5, len(tokens) + 0.5, 0.5), aspect="auto")  # fmt: skip
        mask.set(title=f"M at α = {alpha:g}, {ratio}", xlabel="column j (key)", ylabel="row i (query)")
        mask.set_yticks(list(places), tokens)
        mask.grid(False)
        states.barh(list(places), shift, color=PALETTE[0])
        states.set(title="how far each state moves", xlabel="change against causal (%)")
        drawing.colorbar(image, ax=mask, label="M", fraction=0.05)
        return drawing


@lru_cache(maxsize=2)
def _encoder(folder: Path, max_length: int) -> SentenceTransformer:
    return to_sentence_transformer(folder, "mean", max_length, "soft_mask", device="cpu")
