"""A worker whose one target has defects of every kind, by number: what a campaign has to find."""

import os
import time
from pathlib import Path
from random import Random
from typing import Any

from propetl.errors import DataError
from tests.fuzzing.campaign import Campaign
from tests.fuzzing.targets import Target
from tests.fuzzing.worker import main


def faulty_campaign(folder: Path, seed: int, kept: bool = True) -> Campaign:
    """Mutants are numbers from 0 to 7, each of which ends in its own way."""
    return Campaign(folder, seed, [Target("faulty", 1, kept, _draw, _read, 0)])


def _draw(random: Random) -> int:
    return random.randrange(8)


def _read(mutant: int) -> Any:
    match mutant:
        case 1:
            raise DataError("one line")
        case 2:
            raise DataError("two\nlines")
        case 3:
            raise KeyError("no error of ours")
        case 4:
            raise type("PanicException", (BaseException,), {})("a library's panic")
        case 5:
            return "another meaning"
        case 6:
            os.abort()
        case 7:
            time.sleep(1000)
    return "the meaning"


if __name__ == "__main__":
    main(faulty_campaign)
