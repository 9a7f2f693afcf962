"""``python -m propetl`` and ``torchrun -m propetl``: the same as the console script."""

from propetl.cli.main import main

if __name__ == "__main__":
    main(prog_name="propetl")
