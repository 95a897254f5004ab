"""Bringing an image where it shall be: blobs first and several at once, the manifest last.

A tag means the old image until all of the new one is there; so it never means half of one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from koalja_fn.errors import Damaged, PackError
from koalja_fn.pack.oci.client import RegistryClient
from koalja_fn.pack.oci.image import Image
from koalja_fn.pack.oci.place import Meter, Place, digest_of, save
from koalja_fn.pack.oci.reference import LayoutTarget, Target
from koalja_fn.pack.oci.values import Descriptor, Layer

_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Published:
    """Where the image is now, and the bytes that travelled for it or did not have to."""

    reference: Target
    digest: str
    sent: int
    spared: int


def publish(
    image: Image, target: Target, client: RegistryClient, *, moved: Callable[[int], None] | None = None
) -> Published:
    """Make the tag mean this image; `moved` hears of bytes as they leave, from several threads.

    Layers of the base are mounted from its repository, or copied from where it lies. An image that the
    tag means already costs one question.
    """
    place, meter = metered(client, target, moved)
    whole = sum(layer.size for layer in image.layers) + len(image.config_data) + len(image.manifest.data)
    if place.digest_of(target.which) == image.digest:
        return Published(target.at(image.digest), image.digest, 0, whole)
    config = image.config_descriptor
    unique = {layer.digest: layer for layer in image.layers}
    tasks: list[Callable[[], None]] = [lambda: place.push(config, image.config_data)]
    tasks += [lambda layer=layer: bring(layer, place, client) for layer in unique.values()]  # type: ignore[misc]
    _all(tasks, meter)
    place.put_manifest(image.manifest, target.digest or target.which)
    return Published(target.at(image.digest), image.digest, meter.sent, meter.spared)


def metered(
    client: RegistryClient, target: Target, moved: Callable[[int], None] | None
) -> tuple[Place, Meter]:
    """The place to write to, and a meter that counts for this one image as well as for the client."""
    whole = client.meter

    class _Both(Meter):
        def count_sent(self, size: int) -> None:
            super().count_sent(size)
            whole.count_sent(size)

        def count_spared(self, size: int) -> None:
            super().count_spared(size)
            whole.count_spared(size)

    meter = _Both(moved)
    return client.place(target, writing=True, meter=meter), meter


def bring(layer: Layer, place: Place, client: RegistryClient) -> None:
    """Make sure that a layer is there: its own file is pushed, another place's is mounted or copied."""
    described = Descriptor(layer.media_type, layer.digest, layer.size)
    if layer.blob is not None:
        _check_file(layer, layer.blob)
        place.push(described, layer.blob, layer.source)
        return
    if layer.source is None:
        raise PackError(f"layer {layer.digest} is nowhere", why="it has neither a file nor a source")
    if layer.source == place.target or place.mount(described, layer.source):
        return
    origin = client.place(layer.source)
    if isinstance(layer.source, LayoutTarget):
        # A folder's blob is a file already, and checked by whoever takes it in.
        place.push(described, layer.source.folder / "blobs" / layer.digest.replace(":", "/"))
        return
    with tempfile.TemporaryDirectory(prefix="koalja-fn-copy-") as folder:
        file = Path(folder) / "blob"
        save(origin, described, file)
        place.push(described, file)


def _check_file(layer: Layer, file: Path) -> None:
    """Small files are read again, since a wrong one would be refused only after the whole upload."""
    size = file.stat().st_size if file.is_file() else -1
    if size != layer.size or (size <= 1 << 20 and digest_of(file.read_bytes()) != layer.digest):
        raise Damaged(
            f"{file} is not the layer that was made", why=f"expected {layer.size} bytes of {layer.digest}"
        )


def _all(tasks: list[Callable[[], None]], meter: Meter) -> None:
    """Do all tasks, a few at a time; after the first failure, or ^C, the others end soon."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="publish") as pool:
        futures = [pool.submit(task) for task in tasks]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        except BaseException:
            meter.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
