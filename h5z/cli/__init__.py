"""The h5z command: each verb one thin call."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Annotated

import typer

import h5z
from h5z.cli import archives, files, looking, shards, vault
from h5z.credentials import redact
from h5z.errors import H5zError, PlanError, one_line

app = typer.Typer(
    name="h5z",
    help="Migrate HDF5 files to Zarr: nothing lost in silence, complete or not there at all, as fast as the bytes allow.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        print(f"h5z {h5z.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="With any command: a traceback where something fails.")] = False,
) -> None:
    """Take the options that every command has; `main` has seen to ``--debug``."""


for verb in (
    looking.tree,
    looking.advise,
    files.plan,
    files.convert,
    files.verify,
    files.restore,
    archives.migrate,
    archives.combine,
    archives.events,
    looking.doctor,
):
    app.command()(verb)
app.add_typer(shards.app, name="shards")
app.add_typer(vault.app, name="vault")

_INTERRUPTED = 130
_CANNOT_WRITE = (errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def main() -> None:
    """Run the command; end with one line and the design's exit status whatever happens."""
    _open_streams()
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        code = app(arguments, standalone_mode=False)
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
        sys.stdout.flush()
    except H5zError as error:
        code = _fail(error, error.exit_code, debug)
    except (typer.Abort, KeyboardInterrupt):
        code = _fail(PlanError("interrupted; the same command goes on from here"), _INTERRUPTED, debug)
    except (BrokenPipeError, SystemExit):  # nobody reads on: typer says so by the latter
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 0
    except OSError as error:
        code = _fail(error, 4 if error.errno in _CANNOT_WRITE else 3, debug)
    except Exception as error:
        if hasattr(error, "format_message"):  # what typer raises for a call that it cannot parse; of one without a verb, its help
            text = str(error.format_message())
            if text.startswith("Usage:"):
                print(text, file=sys.stderr)
                code = 2
            else:
                code = _fail(PlanError(f"{text} (h5z --help)"), 2, debug)
        else:
            code = _fail(error, 1, debug)
    sys.exit(code if isinstance(code, int) else 0)


def _open_streams() -> None:
    """Have the three standard streams, whoever closed them, and print what a terminal's encoding lacks as escapes."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fail(error: Exception, code: int, debug: bool) -> int:
    if debug:
        import traceback

        print(redact(traceback.format_exc()), file=sys.stderr)
    print(f"h5z: {one_line(error)}".encode("utf-8", "backslashreplace").decode(), file=sys.stderr)
    return code
