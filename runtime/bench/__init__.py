"""Measuring an artifact: every runtime in a process of its own, rounds interleaved.

    plan ──► cold starts ──► memory, one process at a time ──► rounds A B C, A B C, … ──► report
                                                              latency, switching, mixed batches
``worker`` is what runs inside a process; ``processes`` starts it and talks to it; ``run`` is the way through.
"""
