"""The command line, and the MLproject's entry points.

Modules are imported when a command needs them, so that the help is quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import StringIO

import click

from ecg_mlflow.cli.data import data_command, datasets_command, show_command
from ecg_mlflow.cli.environment import process_as_found
from ecg_mlflow.cli.results import (
    compare_command,
    errors_command,
    predict_command,
    promote_command,
    rollback_command,
)
from ecg_mlflow.cli.run import plan_command, reap_command, run_command
from ecg_mlflow.errors import EcgMlflowError
from ecg_mlflow.terminal import say

_NAME = "ecg-mlflow"
_COMPLETION = "_ECG_MLFLOW_COMPLETE"
_SECTIONS = {
    "Studies": (run_command, plan_command, reap_command),
    "Recordings": (data_command, datasets_command, show_command),
    "Reports": (compare_command, errors_command),
    "Models": (promote_command, rollback_command, predict_command),
}
_EPILOG = f"""
First steps: `{_NAME} run quickstart.py`, then `mlflow ui`.

Completion of commands and options in bash (zsh_source in zsh, fish_source in fish):

\b
    eval "$({_COMPLETION}=bash_source {_NAME})"
"""


class Program(click.Group):
    """The program, whose help lists the commands under headings."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what each command does."""
        width = max(map(len, self.commands))
        for section, commands in _SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl(
                    [
                        (f"{command.name:<{width}}", command.get_short_help_str(formatter.width))
                        for command in commands
                    ]
                )


program = click.version_option(package_name="ecg_mlflow", prog_name=_NAME)(
    Program(
        _NAME,
        commands=[command for commands in _SECTIONS.values() for command in commands],
        help="Experimental designs over ECG classifiers, run and compared on MLflow.",
        epilog=_EPILOG,
        no_args_is_help=False,  # with status 0 or 2, by the version of click
        context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    )
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status, and leave the process as it was.

    0: all went well. 1: the command can't be carried out; the message says why. 2: wrong usage.
    3: it was carried out, but some runs failed, a model was not promoted, or some recordings
    could not be classified. 130: stopped by Ctrl-C or SIGTERM.
    """
    if instruction := os.environ.get(_COMPLETION):
        from click.shell_completion import shell_complete

        return shell_complete(program, {}, _NAME, _COMPLETION, instruction)
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with process_as_found(), program.make_context(_NAME, words) as context:
            if words:
                return int(program.invoke(context))
            click.echo(context.get_help(), err=True)
            return 2
    except click.exceptions.Exit as done:  # --help, --version
        return done.exit_code
    except click.ClickException as error:
        # As click shows it, but for what a word of the command may hold.
        with StringIO() as shown:
            error.show(shown)
            say(shown.getvalue().rstrip("\n"), file=sys.stderr)
        return error.exit_code
    except EcgMlflowError as error:
        return _stopped(f"error: {error}", error, 1)
    except KeyboardInterrupt as error:
        return _stopped("stopped", error, 130)


def _stopped(message: str, error: BaseException, status: int) -> int:
    notes = getattr(error, "__notes__", ())
    say(f"{_NAME}: {message}", *notes, file=sys.stderr)
    return status
