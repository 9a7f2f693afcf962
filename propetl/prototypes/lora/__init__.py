"""LoRA: a low-rank pair beside attention projections."""
