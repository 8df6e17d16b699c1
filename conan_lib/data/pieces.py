"""Long documents as pieces of a bounded length."""

from collections.abc import Iterator

from conan_lib.data.sources.document import Document

SENTENCE_ENDS = ".!?。！？؟\n"


def divide(text: str, longest: int, strip: bool = True) -> Iterator[str]:
    """Pieces of at most `longest` characters, cut after a sentence where one ends in the second half of a piece; white space at the cuts
    is dropped, or kept where `strip` is off."""
    while len(text) > longest:
        end = max(text.rfind(mark, longest // 2, longest) for mark in SENTENCE_ENDS) + 1
        if end == 0:
            end = max(text.rfind(" ", longest // 2, longest), 0) or longest
        piece, text = text[:end], text[end:]
        yield piece.strip() if strip else piece
        text = text.strip() if strip else text
    if text:
        yield text


def pieces(document: Document, longest: int) -> Iterator[Document]:
    """A document, or its parts; only the first part keeps the title, the summary and the label."""
    if len(document.text) <= longest:
        yield document
        return
    for number, piece in enumerate(divide(document.text, longest, document.clean)):
        later = {"id": f"{document.id}#{number}", "title": "", "summary": "", "label": ""} if number else {}
        yield document._replace(text=piece, **later)
