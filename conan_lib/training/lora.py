"""Low-rank adapters on a sentence encoder while it trains; what is left afterwards is a stock model."""

from sentence_transformers import SentenceTransformer
from transformers import set_seed

from conan_lib.errors import UserError
from conan_lib.params.training import LoraParams


def add_lora(model: SentenceTransformer, lora: LoraParams, seed: int) -> None:
    """Puts adapters on `lora.targets`, in place; from here on they alone train. At the start they change nothing (B = 0).

    Raises:
        UserError: no layer of the model has such a name.
    """
    from peft import LoraConfig

    set_seed(seed)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha or 2 * lora.rank,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        task_type="FEATURE_EXTRACTION",
    )
    try:
        model.add_adapter(config)
    except ValueError as error:
        raise UserError(f"lora.targets: {', '.join(lora.targets)} name no layer of this model: {error}") from None


def merge_lora(model: SentenceTransformer) -> None:
    """W + alpha / rank * B A in the place of each adapted layer: the model has the classes and names that it had before `add_lora`."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    backbone = model.transformers_model
    for name, layer in list(backbone.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            parent, _, child = name.rpartition(".")
            setattr(backbone.get_submodule(parent), child, layer.get_base_layer())
    backbone.delete_adapter("default")
    backbone.requires_grad_(True)
