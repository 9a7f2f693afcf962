"""The command line: click commands that parse, call and print."""

# The folder stands at the top of the repository, where a bare import would find it under its own name.
if __name__ != "propetl.cli":
    raise ImportError(f"import 'propetl.cli', not {__name__!r}")
