"""The command ``propetl``: a group that imports a command's module only when that command is called."""

import io
import sys
import traceback
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

import click

from propetl import __version__
from propetl.cli.failures import INTERRUPTED, failure_of
from propetl.cli.streams import discard_broken_output, say_error, standard_streams
from propetl.errors import Interrupted

# Command -> its line in `propetl --help`, in order of use. Module `propetl.cli.<command>` has `command`.
COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "data": "Write the generated example tasks.",
        "train": "Learn a prototype and masks for tasks; leaves a bundle.",
        "reproduce": "Run a set of the paper's experiments; prints its table.",
        "import": "Turn a checkpoint of the paper's code into a bundle.",
        "inspect": "Show a bundle's tasks, sizes, sparsity and mask overlap.",
        "export": "Compile a bundle to ONNX graphs; leaves an artifact.",
        "build": "Build engines for GPUs from an artifact's graphs.",
        "tune": "Optimise an artifact for the CPU of this device.",
        "validate": "Check an artifact: by itself, or against PyTorch.",
        "bench": "Measure an artifact's speed, memory and task switching.",
        "predict": "Run a task of an artifact on text.",
    }
)


class CommandGroup(click.Group):
    """Lists commands from a table, imports one when called, turns an error into a line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        ctx.invoked_subcommand = cmd_name  # known before the import, which may fail
        command = import_module(f"propetl.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}; there are {', '.join(COMMANDS)}.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, *args: Any, **keywords: Any) -> Any:
        with standard_streams():
            return super().main(*args, **keywords)

    def invoke(self, ctx: click.Context) -> Any:
        _escape_what_cannot_be_written()
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader has gone, as in `propetl … | head`: click ends quietly
        except Interrupted as stopped:
            click.secho(f"propetl: {stopped}", fg="red", err=True)
            ctx.exit(stopped.exit_code)
        except KeyboardInterrupt:
            click.secho("propetl: interrupted", fg="red", err=True)
            ctx.exit(INTERRUPTED)
        except Exception as error:
            failure = failure_of(error, ctx.invoked_subcommand)
            if failure is None:
                raise
            if ctx.params.get("debug"):
                traceback.print_exc(file=sys.stderr)
            if isinstance(error, OSError):
                discard_broken_output()
            say_error(failure.message)
            ctx.exit(failure.exit_code)


def _escape_what_cannot_be_written() -> None:
    r"""Has standard output write ``\\xfc`` for a character that the locale's encoding lacks, as errors are written."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="propetl", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Print the trace of an error as well.")
def main(debug: bool) -> None:
    """One shared prototype per backbone, one binary mask per layer and task.

    The whole way is train, export, validate, bench, predict; `propetl COMMAND --help` tells about each.
    """
