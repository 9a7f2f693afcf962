"""Tasks, their rows and their metrics. Imports neither torch nor transformers, and each module only when it is used."""
