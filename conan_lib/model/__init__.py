"""The model: where it starts, its tokenizer, as an encoder, as a graph."""
