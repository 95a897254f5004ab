"""What the verbs on a cluster have in common: which cluster, which namespace, how it is told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click

if TYPE_CHECKING:
    from koalja_fn.cluster.client import Cluster
    from koalja_fn.cluster.telling import Plain

P = ParamSpec("P")
R = TypeVar("R")


def cluster_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add `-n/--namespace` and `--context`, passed on as `namespace` and `context`."""
    command = click.option(
        "--context", metavar="NAME", help="Another context of the kubeconfig than the current one."
    )(command)
    return click.option(
        "-n", "--namespace", metavar="NAMESPACE", help="Where.  [default: the context's namespace]"
    )(command)


def timeout_option(command: Callable[P, R]) -> Callable[P, R]:
    """Add `--timeout SECONDS`."""
    return click.option(
        "--timeout",
        type=click.FloatRange(1, 86_400),
        default=600.0,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait until all is ready.",
    )(command)


def reached(context: str | None, namespace: str | None) -> tuple[Cluster, str]:
    """The cluster that is meant, and the namespace."""
    from koalja_fn.cluster.kube import connect

    cluster = connect(context)
    return cluster, namespace or cluster.namespace


def told() -> Plain:
    """How it goes, on standard error."""
    from koalja_fn.cluster.telling import teller
    from koalja_fn.pack.telling import fits

    return teller(live=fits(sys.stderr))
