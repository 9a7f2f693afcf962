"""A process that reads mutants: ``python -m tests.fuzzing.worker FOLDER SEED NUMBER_FILE``.

Takes lines ``FIRST COUNT`` and answers each by a line of JSON. Before each mutant it notes its number in a file, so
that whoever started it knows which one ended or held up the process.
"""

import json
import mmap
import resource
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from tests.fuzzing.campaign import Campaign, Tally

NUMBER_BYTES = 8
MOST_MEMORY = 8 << 30
"""Address space: a file that makes the program ask for more is a memory bomb."""


def main(campaign_of: Callable[[Path, int], Campaign] = Campaign) -> None:
    """Reads lines until there are no more."""
    folder, seed, number_file = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    warnings.simplefilter("error")
    campaign = campaign_of(folder, seed)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    with open(number_file, "r+b") as stream, mmap.mmap(stream.fileno(), NUMBER_BYTES) as noted:
        print("ready", flush=True)
        for line in sys.stdin:
            first, count = map(int, line.split())
            tally = Tally()
            for number in range(first, first + count):
                noted[:] = number.to_bytes(NUMBER_BYTES, "little")
                tally.add(number, *campaign.outcome(number))
            print(json.dumps(tally.to_json()), flush=True)


if __name__ == "__main__":
    main()
