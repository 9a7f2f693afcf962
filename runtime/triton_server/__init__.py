"""What NVIDIA's Triton Inference Server runs in Python beside a graph: texts to token ids, logits to answers.

``propetl export --layout triton`` writes a ``model.py`` of one line for each, which imports it from here. Triton
calls ``initialize`` once and ``execute`` with requests; its own module is imported then, as nothing else has it.
"""
