"""Exports that other tools run: PEFT adapter folders, and ONNX Runtime's adapter files.

They are no artifacts: no session runs them, and they hold nothing that only this project reads, but for
``export.json``, which says where they come from.
"""
