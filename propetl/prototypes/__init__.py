"""Prototypes: what each method shares between layers and tasks.

``spec`` is plain data and loads no torch; ``adapter``, ``lora`` and ``prefix`` hold the equations.
"""
