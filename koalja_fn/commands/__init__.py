"""The command `koalja-fn`: one file for each verb or small family of verbs.

Verbs are imported when they are called, so that `--help` stays fast.
"""

from __future__ import annotations

import importlib

import click

VERBS: dict[str, tuple[str, str]] = {
    # verb: (module, what it does in one line)
    "init": ("init", "Make a folder with a circuit that runs."),
    "run": ("run", "Run a circuit on this machine."),
    "make": ("make", "Ask for a wire: only what changed is made again."),
    "recompute": ("recompute", "Make old results again with the code as it is now."),
    "send": ("send", "Send a value to a wire."),
    "check": ("check", "Find what is wrong with a circuit, all at once."),
    "ghost": ("ghost", "Show where data would go, without any."),
    "fmt": ("fmt", "Write a circuit in its regular form, or in the other view."),
    "import": ("import_", "Make a circuit of a Pipeline's YAML."),
    "simulate": ("simulate", "Show which snapshots a task would form."),
    "list": ("inspect", "List circuits, tasks, wires and values."),
    "describe": ("inspect", "Tell all about one task, wire, value or snapshot."),
    "get": ("get", "Print a value's payload, made again where it was purged."),
    "trace": ("trace", "Tell where a value came from, or what it influenced."),
    "why": ("why", "Tell why a value exists, or was made again."),
    "visits": ("visits", "Tell who came through a task, when, and what was done."),
    "log": ("log", "Tell what happened in a circuit, in order of time."),
    "map": ("map", "Draw the circuit with what usually happens in it."),
    "failures": ("failures", "List dead letters and refused events."),
    "retry": ("failures", "Run dead letters again."),
    "skip": ("failures", "Give up dead letters, on record."),
    "gc": ("gc", "Delete payloads that nobody needs any more."),
    "pack": ("pack", "Make an image of each task, with no Dockerfile."),
    "render": ("render", "Print what a circuit is on a cluster, for GitOps."),
    "install": ("install", "Make a namespace of a cluster ready for circuits."),
    "deploy": ("deploy", "Bring a circuit onto a cluster."),
    "diff": ("diff", "Show what deploying would change, or in what two results differ."),
    "logs": ("logs", "Show what the programs of a deployed circuit write."),
    "delete": ("delete", "Take a circuit off a cluster."),
    "doctor": ("doctor", "Look for what this machine lacks."),
    "completion": ("completion", "Print the shell completion."),
}


_REMOTE = frozenset(
    {"list", "describe", "trace", "visits", "log", "map", "failures", "retry", "skip", "gc", "get", "why"}
)
# They run in the console of a deployed circuit where `--cluster` is among their words.


class _Verbs(click.Group):
    """A group whose verbs are imported only when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"koalja_fn.commands.{VERBS[cmd_name][0]}")
        command: click.Command = getattr(
            module, {"list": "list_", "import": "import_"}.get(cmd_name, cmd_name)
        )
        if cmd_name in _REMOTE:
            command.epilog = (
                "On a cluster: add --cluster CIRCUIT, and -n NAMESPACE where it is not the current one."
            )
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            from koalja_fn.commands.shared import nearest

            guess = nearest(args[0], VERBS)
            hint = f" Did you mean '{guess}'?" if guess else ""
            raise click.UsageError(f"No such command '{args[0]}'.{hint}", ctx)
        name, command, rest = super().resolve_command(ctx, args)
        if name in _REMOTE and any(word.partition("=")[0] == "--cluster" for word in rest):
            from koalja_fn.commands.remote import remotely

            return name, remotely(str(name)), rest
        return name, command, rest

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # before the verb was there to take it
            ctx.exit(130)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, line) for verb, (_, line) in VERBS.items()])


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="koalja-fn", prog_name="koalja-fn")
@click.option("--debug", is_flag=True, help="Show tracebacks of our own errors.")
@click.pass_context
def main(ctx: click.Context, debug: bool) -> None:
    """Run plain programs whenever their input data arrive, wired to one another.

    \b
    Examples:
      koalja-fn init demo && koalja-fn run --once demo
      koalja-fn check demo
      koalja-fn run demo

    \b
    Exit status: 0 fine; 1 unexpected; 2 wrong call; 3 findings in the wiring; 4 a program failed for good;
    5 an event was refused; 6 somebody else holds the folder; 7 no such thing; 8 disk or registry trouble;
    9 no image could be made or brought away; 10 the cluster won't have it, or it does not get ready;
    130 interrupted.
    """
    from koalja_fn.commands.shared import have_streams

    have_streams()
    ctx.obj = {"debug": debug}
