"""`koalja-fn render`: a circuit's Kubernetes objects as text, for those who apply them in another way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from koalja_fn.commands.shared import emit_json, reports_errors
from koalja_fn.errors import PackError, UsageError

if TYPE_CHECKING:
    from koalja_fn.cluster.imaging import Images, Packing
    from koalja_fn.cluster.settings import Settings
    from koalja_fn.program.folder import Opened


@click.command()
@reports_errors
@click.argument("path", type=click.Path(path_type=Path), default=".")
@click.option("-n", "--namespace", default="default", show_default=True, help="Where the objects go.")
@click.option("--images", metavar="PREFIX", help="REGISTRY/PREFIX of the images.  [default: the settings']")
@click.option(
    "--settings",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with the ConfigMap koalja-settings, YAML or JSON.",
)
@click.option("--set", "words", multiple=True, metavar="NAME=VALUE", help="A setting; may be repeated.")
@click.option("--pack", "packs", is_flag=True, help="Pack what changed, and push it, first.")
@click.option("--tags", is_flag=True, help="Name images by their tags: no registry is asked.")
@click.option("--run-image", metavar="REF", default="", help="What images are built upon, as for `pack`.")
@click.option("--insecure", is_flag=True, help="Speak plain HTTP to registries that are not on this machine.")
@click.option(
    "--no-install", is_flag=True, help="Leave out the job that brings the circuit into the registry."
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["yaml", "json"]),
    default="yaml",
    show_default=True,
    help="For people or for programs.",
)
def render(
    path: Path,
    namespace: str,
    images: str | None,
    file: Path | None,
    words: tuple[str, ...],
    packs: bool,
    tags: bool,
    run_image: str,
    insecure: bool,
    no_install: bool,
    output: str,
) -> None:
    """Print what a circuit is on a cluster, for GitOps: all Kubernetes objects of the one in PATH.

    No cluster is asked, and `deploy` does all of this by itself. Images are named by digest, which the
    registry tells; what changed since it was packed is an error, or is packed with --pack. The settings are
    those of the namespace: kubectl get configmap koalja-settings -o yaml > FILE, and --settings FILE.

    \b
    Examples:
      koalja-fn render ./mycode --images ghcr.io/me --tags --set store=s3://data/plant > plant.yaml
      koalja-fn render ./mycode -n plant --images ghcr.io/me --tags --set store=s3://data/plant -o json

    \b
    Exit status: 0 fine; 2 wrong call; 3 the wiring has errors; 9 an image is not there.
    """
    from koalja_fn.cluster.gitops import installation
    from koalja_fn.cluster.imaging import Packing
    from koalja_fn.cluster.place import Deployed, well_known_address
    from koalja_fn.cluster.rendering import left_out, render
    from koalja_fn.program.folder import open_circuit

    settings = _settings(file, words)
    opened = open_circuit(path)
    if opened.circuit is None:
        from koalja_fn.local.workplace import findings_error

        raise findings_error(opened)
    how = Packing(images or settings.images, run_image, insecure=insecure)
    if not how.prefix:
        raise UsageError("where are the images?", cure="--images REGISTRY/PREFIX")
    if not settings.store:
        raise UsageError("where do payloads go?", cure="--set store=s3://BUCKET/PREFIX")
    found = _images(opened, how, packs=packs, tags=tags)
    circuit = opened.circuit
    objects = render(circuit, found.references, settings, found.versions, namespace=namespace)
    if not no_install:
        place = Deployed(circuit, found.references, settings, found.versions, namespace)
        wiring = opened.file.read_text(encoding="utf-8") if opened.file else ""
        objects = [*installation(place, wiring), *objects]
    if output == "json":
        emit_json({"apiVersion": "v1", "kind": "List", "items": objects})
        return
    _print(objects, circuit.name, left_out(circuit), well_known_address(settings, namespace, circuit.name))


def _settings(file: Path | None, words: tuple[str, ...]) -> Settings:
    from koalja_fn.cluster.settings import Settings

    data: dict[str, str] = _read(file) if file else {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"--set {word} has no value", cure=f"--set {word}=VALUE")
        data[name] = value
    return Settings.of(data)


def _read(file: Path) -> dict[str, str]:
    """The data of a ConfigMap in a file, or a mapping by itself."""
    import yaml

    try:
        found: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{file} can't be read as YAML", why=str(error)) from error
    data = found.get("data", found) if isinstance(found, Mapping) else None
    if not isinstance(data, Mapping):
        raise UsageError(f"{file} holds no settings", cure="kubectl get configmap koalja-settings -o yaml")
    return {str(name): str(value) for name, value in data.items()}


def _images(opened: Opened, how: Packing, *, packs: bool, tags: bool) -> Images:
    """The images, by digest or by tag.

    Raises:
        PackError: Some are not in the registry, or not as they would be packed now.
    """
    from koalja_fn.cluster import imaging

    if tags:
        return _tagged(opened, how)
    if packs:
        import sys

        from koalja_fn.pack import telling

        live = telling.fits(sys.stderr)
        listener = telling.Live() if live else telling.Plain(verbose=False)
        with listener:
            return imaging.pack(opened, how, listener)
    found = imaging.look_up(opened, how)
    if found.changed:
        raise PackError(
            f"not packed yet, or changed since: {', '.join(sorted(found.changed))}",
            why=f"below {how.prefix} is no image of them as they are now",
            cure="--pack packs and pushes them first; --tags names images by their tags",
        )
    return found


def _tagged(opened: Opened, how: Packing) -> Images:
    from koalja_fn.cluster.imaging import Images
    from koalja_fn.cluster.names import ENTRY
    from koalja_fn.pack import packing

    assert opened.circuit is not None
    where = packing.destination(how.prefix, None)
    keys = [*(task.name for task in opened.circuit.tasks), ENTRY]
    references = {key: str(where.of(opened.circuit.name, key)) for key in keys}
    return Images(references, {name: code.version for name, code in opened.located.items()}, ())


def _print(objects: list[dict[str, Any]], circuit: str, left_out: list[str], address: str) -> None:
    from koalja_fn.cluster.captions import caption
    from koalja_fn.cluster.yamltext import text

    head = [
        f"Circuit {circuit}, by `koalja-fn render`: made anew from the wiring, so change that.",
        f"KOALJA_BROKER is where Brokers of this class listen by default: {address}",
        f"Where yours differs (kubectl get broker {circuit}), `koalja-fn deploy` finds out by itself.",
        *(f"Not here: {line}" for line in left_out),
    ]
    click.echo(text(((caption(item), item) for item in objects), "\n".join(head)), nl=False)
