"""Sets that nothing was trained on."""
