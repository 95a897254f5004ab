"""What all tasks of one packing have in common: base image, buildpacks, order, variables of the build."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from koalja_fn.errors import NoSuchImage, Unauthorised, Unreachable, UsageError
from koalja_fn.pack.buildpack import Buildpack, Entry, Machine, Order, Shelf, digest_of, read_order
from koalja_fn.pack.environment import VARIABLE
from koalja_fn.pack.errors import PhaseError
from koalja_fn.pack.oci.client import RegistryClient
from koalja_fn.pack.oci.image import BaseImage, load_base, pinned
from koalja_fn.pack.oci.reference import LayoutTarget, Target, target
from koalja_fn.pack.oci.values import Platform
from koalja_fn.pack.places import cache_folder
from koalja_fn.pack.wheels import ready

RUN_IMAGE = "docker.io/library/python:3.12-slim"
RECIPE_LABEL = "dev.koalja.recipe"
_FORMAT = 2
_BUILDER_LABEL = "io.buildpacks.builder.metadata"
_LANGUAGES = ("python", "node")


@dataclass(frozen=True, slots=True)
class Choice:
    """What the user chose for the embedded packer."""

    run_image: str = ""
    builder: str = ""
    buildpacks: tuple[Path, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    platform: Platform = field(default_factory=Platform.here)


class Ground:
    """The common ground of a packing; everything is looked up at most once, when it is first needed."""

    def __init__(
        self, choice: Choice, client: RegistryClient, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.choice = choice
        self.say = say
        self.client = client
        self._lock = threading.RLock()
        check_variables(choice.variables)

    @cached_property
    def builder(self) -> BaseImage | None:
        """The builder, where one is named."""
        if not self.choice.builder:
            return None
        with _asked_for("builder", self.choice.builder, "--builder"):
            return load_base(target(self.choice.builder), self.choice.platform, self.client)

    @cached_property
    def run_name(self) -> str:
        """The run image's name: the one that the user gave, else the builder's, else ours."""
        if self.choice.run_image or self.builder is None:
            return self.choice.run_image or RUN_IMAGE
        try:
            told = json.loads(self.builder.labels.get(_BUILDER_LABEL, ""))
            images = told.get("images") or [told["stack"]["runImage"]]
            return str(images[0]["image"])
        except (ValueError, KeyError, TypeError, IndexError):
            raise UsageError(
                f"the builder {self.choice.builder} names no run image", cure="name one with --run-image"
            ) from None

    @property
    def public_name(self) -> str:
        """The run image's name for its label; empty for a folder's, which means nothing elsewhere."""
        return "" if isinstance(target(self.run_name), LayoutTarget) else self.run_name

    @cached_property
    def pin(self) -> Target:
        """The run image's name with its digest, which is all that is asked for where nothing has changed."""
        with _asked_for("run image", self.run_name, "--run-image"):
            return pinned(target(self.run_name), self.choice.platform, self.client)

    @cached_property
    def base(self) -> BaseImage:
        """The run image."""
        return load_base(self.pin, self.choice.platform, self.client)

    @cached_property
    def rootfs(self) -> Path:
        """The run image's root file system, unpacked."""
        return self._unpacked(self.base)

    @cached_property
    def build_rootfs(self) -> Path:
        """The root file system in which buildpacks run."""
        if self.builder is None:
            return self.rootfs
        return self._unpacked(self.builder)

    def _unpacked(self, image: BaseImage) -> Path:
        from koalja_fn.pack.oci.rootfs import extract_rootfs  # not needed where nothing has changed

        with self._lock:
            return extract_rootfs(image, self.client, cache_folder() / "bases")

    @cached_property
    def machine(self) -> Machine:
        """The target that buildpacks are told of."""
        from koalja_fn.pack import bases

        return bases.machine_of(self.base, self.rootfs)

    @cached_property
    def python(self) -> tuple[str, str]:
        """Path and version of the run image's Python."""
        from koalja_fn.pack import bases

        return bases.python_of(self.rootfs)

    @cached_property
    def own(self) -> list[Buildpack]:
        """Our buildpacks: the languages, then the runtime, which comes last in each group."""
        with self._lock:
            folder = ready(self.say)
            shelf = Shelf(folder / name for name in (*_LANGUAGES, "koalja"))
            return list(shelf)

    @cached_property
    def shelf(self) -> Shelf:
        """All buildpacks that an order may name."""
        shelf = Shelf(self.choice.buildpacks)
        if self.builder is not None:
            inside = self.build_rootfs / "cnb" / "buildpacks"
            if inside.is_dir():
                shelf.add(inside)
        for one in self.own:
            shelf.add(one.folder)
        return shelf

    @cached_property
    def order(self) -> Order:
        """The groups to try; our runtime comes last in each."""
        runtime = Entry(self.own[-1].id, self.own[-1].version)
        if self.choice.buildpacks:
            named = tuple(
                Entry(one.id, one.version) for path in self.choice.buildpacks for one in Shelf().add(path)
            )
            return ((*named, runtime),)
        if self.builder is not None:
            path = self.build_rootfs / "cnb" / "order.toml"
            return tuple((*group, runtime) for group in read_order(path))
        languages = tuple(Entry(one.id, one.version, optional=True) for one in self.own[:-1])
        return ((*languages, runtime),)

    @cached_property
    def recipe(self) -> str:
        """A digest of all but the source: with equal source and recipe the image is the same."""
        told = [
            _FORMAT,
            self.pin.digest,
            self.builder.digest if self.builder else "",
            digest_of(self._used()),
            _launcher_digest(),
            sorted(self.choice.variables.items()),
            os.environ.get("SOURCE_DATE_EPOCH", ""),
        ]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def _used(self) -> Sequence[Buildpack]:
        given = list(Shelf(self.choice.buildpacks)) if self.choice.buildpacks else []
        return [*given, *self.own]

    def recipe_of(self, source: str) -> str:
        """The recipe with a task's source in it."""
        return "sha256:" + hashlib.sha256(f"{self.recipe} {source}".encode()).hexdigest()


@contextmanager
def _asked_for(what: str, name: str, option: str) -> Iterator[None]:
    """Have an error say which image it is about: it may be one that nobody named."""
    try:
        yield
    except (Unreachable, NoSuchImage, Unauthorised) as error:
        cure = f"{error.cure}, or name another {what}, such as one in a folder: {option} oci:DIR"
        raise type(error)(
            f"the {what} {name} can't be had: {error.what}", why=error.why, cure=cure
        ) from error


def _launcher_digest() -> str:
    given = os.environ.get("KOALJA_CNB_LAUNCHER") or Path(__file__).with_name("launcher.py")
    try:
        return hashlib.sha256(Path(given).read_bytes()).hexdigest()
    except OSError as error:
        raise PhaseError(f"the launcher {given} can't be read", phase="export", why=str(error)) from error


def check_variables(variables: Mapping[str, str]) -> None:
    """Refuse names that are not the user's to set."""
    for name in variables:
        if not VARIABLE.fullmatch(name) or name.startswith("CNB_"):
            raise UsageError(f"'{name}' is no variable for a build", cure="--env BP_NAME=VALUE")
