"""Generating text token by token, in numpy: greedy, by beam search, by sampling.

The loops know nothing of an engine: they ask a :class:`~propetl.runtime.generation.steps.Steps` for the scores of
the next token and tell it which rows to go on with. What they choose is what transformers' ``generate`` chooses.
"""
