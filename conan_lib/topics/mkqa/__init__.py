"""MKQA by the paper's protocol (its multilingual table)."""
