"""`koalja-fn install`: makes a namespace ready for circuits."""

from __future__ import annotations

import os
from collections.abc import Iterable

import click

from koalja_fn.commands.clusters import cluster_options, reached, timeout_option, told
from koalja_fn.commands.shared import emit_json, output_option, reports_errors
from koalja_fn.errors import NotFound, UsageError


@click.command()
@reports_errors
@cluster_options
@click.option("--store", metavar="s3://BUCKET/PREFIX", help="Where payloads are kept.")
@click.option("--endpoint", metavar="URL", help="An S3 server other than AWS's own.")
@click.option("--queue-endpoint", metavar="URL", help="A server of queues other than AWS's SQS.")
@click.option("--region", metavar="REGION", help="The region of the store.  [default: us-east-1]")
@click.option("--images", metavar="REGISTRY/PREFIX", help="Where `deploy` pushes images.")
@click.option("--pull-secret", metavar="NAME", help="A secret of the namespace with which nodes pull images.")
@click.option("--registry", metavar="DSN", help="The registry's database, without a password.")
@click.option(
    "--registry-file",
    type=click.File("r"),
    metavar="FILE|-",
    help="A file with the database's whole address.",
)
@click.option(
    "--aws-keys", is_flag=True, help="Keep AWS_ACCESS_KEY_ID and its kin, as set here, as a secret."
)
@click.option("--role-arn", metavar="ARN", help="An IAM role for the runtimes, in place of keys (EKS).")
@click.option("--broker-class", metavar="CLASS", help="Kafka, … [default: MTChannelBasedBroker]")
@click.option("--sweep", metavar="WAYS", help="ping, keda or both.  [default: ping,keda]")
@click.option(
    "--set", "more", multiple=True, metavar="NAME=VALUE", help="Another setting, such as memory=256Mi."
)
@click.option("--with-postgres", is_flag=True, help="Run a PostgreSQL in the namespace, for trying out.")
@click.option("--postgres-image", metavar="REF", help="Its image.  [default: postgres:17]")
@click.option("--postgres-disk", metavar="SIZE", help="Its disk, such as 1Gi.  [default: lost with its pod]")
@click.option("--dry-run", is_flag=True, help="Only say what would be made.")
@timeout_option
@output_option
def install(
    namespace: str | None,
    context: str | None,
    store: str | None,
    endpoint: str | None,
    queue_endpoint: str | None,
    region: str | None,
    images: str | None,
    pull_secret: str | None,
    registry: str | None,
    registry_file: Iterable[str] | None,
    aws_keys: bool,
    role_arn: str | None,
    broker_class: str | None,
    sweep: str | None,
    more: tuple[str, ...],
    with_postgres: bool,
    postgres_image: str | None,
    postgres_disk: str | None,
    dry_run: bool,
    timeout: float,
    output: str,
) -> None:
    """Make a namespace ready for circuits: its settings, its secrets, the account of the runtimes.

    Once for each namespace, and again to change something: what is not given stays as it is. The database's
    address comes from KOALJA_REGISTRY or --registry-file, so that its password is in no list of processes.

    \b
    Examples:
      koalja-fn install -n prod --store s3://data/koalja --images ghcr.io/me --registry-file dsn
      koalja-fn install -n trial --with-postgres --store s3://trial --aws-keys
      koalja-fn install -n prod --set memory=512Mi
    """
    from koalja_fn.cluster import installing, trying

    given = {
        "store": store,
        "endpoint": endpoint,
        "queue-endpoint": queue_endpoint,
        "region": region,
        "images": images,
        "pull-secret": pull_secret,
        "broker-class": broker_class,
        "sweep": sweep,
    }
    settings = {name: text for name, text in given.items() if text is not None} | _more(more)
    wish = installing.Wish(
        settings,
        registry=_registry(registry, registry_file),
        keys=installing.keys_of_environment() if aws_keys else {},
        role=role_arn or "",
        postgres=(postgres_image or trying.IMAGE) if with_postgres else "",
        storage=postgres_disk or "",
    )
    cluster, where = reached(context, namespace)
    objects = installing.wanted(cluster, where, wish)
    if dry_run:
        for line in installing.described(objects):
            click.echo(line)
        return
    with told() as teller:
        done = installing.install(cluster, where, objects, teller)
        if with_postgres:
            installing.await_postgres(cluster, where, timeout, teller)
    if output == "json":
        emit_json({"namespace": where, "objects": [step.to_json() for step in done.steps]})
    else:
        click.echo(f"namespace {where} is ready; next: koalja-fn deploy DIR -n {where}")


def _more(words: Iterable[str]) -> dict[str, str]:
    found = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise UsageError(f"--set {word} has no value", cure=f"--set {word}=VALUE")
        found[name] = text
    return found


def _registry(argument: str | None, file: Iterable[str] | None) -> str:
    from koalja_fn.cluster.installing import check_registry

    if argument and file:
        raise UsageError("--registry and --registry-file at once")
    if argument:
        return check_registry(argument, argument=True)
    text = "".join(file).strip() if file is not None else os.environ.get("KOALJA_REGISTRY", "")
    if file is not None and not text:
        raise NotFound("the file with the registry's address is empty")
    return check_registry(text, argument=False) if text else ""
