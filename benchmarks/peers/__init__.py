"""Workers that run what a user might pick instead; each in an environment of its own, without ProPETL's own code.

They speak the benchmark's lines of JSON. ``source`` of a request to load is the folder of the backbone's weights, and
the variable ``PEERS_WORK`` names a folder where exported graphs are kept from one call to the next.
"""
