"""Reads checkpoints that the reference implementation wrote, and turns them into bundles.

The layouts are described in ``docs/importing.md``. Nothing is unpickled: ``torch.load(weights_only=True)`` alone.
"""
