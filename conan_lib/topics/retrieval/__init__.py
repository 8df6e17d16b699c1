"""Our checkpoints and the peers on the same held-out tasks, as they are and whitened."""
