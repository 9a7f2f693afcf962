"""ProPETL: one shared prototype per backbone, one binary mask per layer and task.

Importing this package imports nothing else: training needs the extra ``train``, the compiler ``export``,
and a device only ``propetl.runtime`` with one engine extra such as ``cpu``.
"""

__version__ = "0.1.0"
