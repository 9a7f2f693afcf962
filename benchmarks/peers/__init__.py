"""Workers that run what a user might pick instead; each in an environment of its own, without ProPETL's own code.

They speak the benchmark's lines of JSON. ``source`` of a request to load is the folder of the backbone's weights, and
the variable ``PEERS_WORK`` names a folder where what they export or save is kept from one call to the next.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before what a worker loads; ProPETL does the same for itself

TASKS = tuple(f"task-{index}" for index in range(10))
"""As many as ProPETL's own artifacts of the benchmark hold, by the same names."""
