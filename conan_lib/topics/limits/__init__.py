"""What a vector keeps of a number, a unit, a negation (claim C10)."""
