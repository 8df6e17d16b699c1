"""The names that fields have in the files of people's tools: sentence-transformers, FlagEmbedding, Tevatron, Automodel, GritLM, F2LLM and
ms-swift for pairs, Alpaca and chats for instructions, and what `conan-lib translate` writes."""

from conan_lib.params.sets import LABELS, PAIRS

_ID = ("id", "query_id", "_id", "qid", "question_id")
_LANG = ("lang", "query_lang", "language")
_PAIR = {
    "id": _ID,
    "anchor": ("anchor", "query", "query_text", "question", "messages", "title", "sentence1"),
    "positive": (
        "positive", "pos", "positives", "positive_passages", "positive_messages", "pos_doc", "positive_document_ids", "passage", "answer",
        "content", "document", "context", "text", "sentence2",
    ),
    "positive_id": ("positive_id", "passage_id"),
    "negatives": (
        "negatives", "neg", "negative", "negative_passages", "negative_messages", "neg_doc", "negative_document_ids", "hard_negatives",
    ),
    "score": ("pos_scores", "score", "scores"),
    "negative_scores": ("neg_scores", "negative_scores"),
    "prompt": ("prompt",),
    "lang": _LANG,
    "positive_lang": ("positive_lang", "passage_lang"),
    "source_anchor_id": ("source_anchor_id", "source_id"),
    "source_anchor": ("source_query",),
}  # fmt: skip
_LABELS = {"id": _ID, "text": ("text", "sentence", "anchor", "content"), "label": ("label_text", "label", "labels"), "lang": _LANG}
_STS = {
    "id": _ID,
    "anchor": ("sentence1", "anchor", "text1", "sentence_a", "query"),
    "positive": ("sentence2", "positive", "text2", "sentence_b", "pos"),
    "score": ("score", "scores", "label", "labels", "similarity_score"),
    "lang": _LANG,
}
KNOWN: dict[str, dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(PAIRS, _PAIR),
    **dict.fromkeys(LABELS, _LABELS),
    "sts": _STS,
    "sft": {
        "id": _ID,
        "instruction": ("instruction",),
        "input": ("input", "query", "question", "anchor", "prompt"),
        "output": ("output", "response", "completion", "answer", "positive", "pos"),
        "lang": _LANG,
    },
    "text": {"id": _ID, "title": ("title",), "text": ("text", "content"), "lang": _LANG},
}
"""Task -> our field -> names that it has elsewhere; the first that a record has counts."""
