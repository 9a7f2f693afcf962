"""The bottleneck adapter, after the FFN (Pfeiffer) or after attention and FFN (Houlsby)."""
