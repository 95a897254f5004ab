"""`completion`: what a shell needs to complete our verbs and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from koalja_fn.commands.shared import reports_errors


@click.command()
@reports_errors
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    \b
    Examples:
      koalja-fn completion bash >> ~/.bashrc
      koalja-fn completion zsh >> ~/.zshrc
      koalja-fn completion fish > ~/.config/fish/completions/koalja-fn.fish
    """
    from koalja_fn.commands import main

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(main, {}, "koalja-fn", "_KOALJA_FN_COMPLETE").source())
