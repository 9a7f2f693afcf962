"""Training: configuration, batches, the Trainer, checkpoints, and what is left at the end."""
