"""The command line: ``archsim COMMAND``.

Each command lives in a module of its own group and imports what it needs when it runs, so that
``archsim --help`` answers at once. Errors a user can cause are one line on standard error.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from archsim.cli import (
    attention,
    compare,
    dram,
    explore,
    gemmini,
    language,
    llm,
    mapping,
    models,
    pim,
    proxy,
    results,
    show,
    study,
    systolic,
    timeloop,
    tools,
)

#: Exit statuses besides 0: something failed; wrong input; interrupted (128 + SIGINT).
FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="archsim",
    help="Explore accelerators for deep learning: exact, fast and explained.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from archsim import __version__

        typer.echo(f"archsim {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Explore accelerators for deep learning: exact, fast and explained."""
    del debug, version  # `main` looks for --debug itself; --version has answered by now.


for _group in (
    explore,
    results,
    study,
    proxy,
    models,
    compare,
    show,
    mapping,
    language,
    llm,
    attention,
    pim,
    dram,
    systolic,
    timeloop,
    gemmini,
    tools,
):
    _group.register(app)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Arguments after the program's name; those of the process when not given.

    Returns:
        The exit status. The console script hands it to ``sys.exit``.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    if debug:  # accepted anywhere on the line
        arguments = [item for item in arguments if item != "--debug"]
    from archsim.errors import ArchsimError

    try:
        app(args=arguments, prog_name="archsim")
    except SystemExit as end:
        # The command line parser ends with a status, or with a message of its own.
        if end.code == INTERRUPTED:
            print("\ninterrupted", file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    except ArchsimError as error:
        if debug:
            raise
        status = getattr(error, "exit_status", WRONG_INPUT)
        print(f"error: {error}" if status == WRONG_INPUT else f"\n{error}", file=sys.stderr)
        return status
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except MemoryError as error:
        if debug:
            raise
        print(f"error: more memory is needed than there is: {error}", file=sys.stderr)
        return FAILED
    except OSError as error:
        if debug or error.filename is None:
            return _fault(error, debug)
        # A file or folder the user named: missing, of another kind, write-protected, disk full.
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return WRONG_INPUT
    except Exception as error:
        return _fault(error, debug)
    return 0


def _fault(error: Exception, debug: bool) -> int:
    """Say that an error is ours; raise it where its traceback is wanted."""
    if debug:
        raise error
    print(
        f"internal error: {type(error).__name__}: {error}\n"
        "This is a fault of archsim; --debug shows where it arose.",
        file=sys.stderr,
    )
    return FAILED


__all__ = ["app", "main"]
