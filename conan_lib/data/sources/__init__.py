"""Where text comes from: one module a kind of source. Each yields Documents; what is done to them is the same for all."""
