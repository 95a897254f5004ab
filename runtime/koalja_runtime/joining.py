"""Joining a circuit: its registry and store are opened, its wiring read, and the code at hand is found."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from koalja_fn.engine.asking import Asked, asks
from koalja_fn.engine.attaching import Attached, attach
from koalja_fn.engine.executing import Executor
from koalja_fn.engine.plans import CircuitPlan, TaskPlan
from koalja_fn.engine.working import Post
from koalja_fn.errors import KoaljaError, NotFound
from koalja_fn.lookups import Proxy, Relayed, Upstream
from koalja_fn.program.calling import Caller
from koalja_fn.program.cancel import Cancel
from koalja_fn.program.contract import Job, Reason, Result
from koalja_fn.program.locating import Located
from koalja_fn.registry import Registry, connect, standing, tasks
from koalja_fn.registry.registry import Transaction
from koalja_fn.store import FileStore, Store, open_store
from koalja_runtime import noting, telling
from koalja_runtime.settings import Settings

LAYERS_UP = 5  # LAYERS/koalja_function/runtime/python/koalja_runtime/joining.py


@dataclass(frozen=True)
class Joined:
    """A circuit that this process works for. `scratch` is a folder of its own."""

    settings: Settings
    registry: Registry
    store: Store
    scratch: Path

    @classmethod
    def of(cls, settings: Settings) -> Joined:
        """Open the registry and the store.

        Raises:
            RegistryError, StoreError: One of them is not there.
        """
        scratch = Path(settings.scratch)
        (scratch / "spool").mkdir(parents=True, exist_ok=True)
        registry = connect(settings.registry)
        try:
            store = open_store(settings.store, cache=scratch / "cache")
            if registry.file is not None and isinstance(
                store, FileStore
            ):  # else what reads wiring is imported
                store.join(registry.file)
            return cls(settings, registry, store, scratch)
        except KoaljaError:
            registry.close()
            raise

    def attached(self, codes: Mapping[str, Located], folder: Path) -> tuple[Attached, int]:
        """The circuit as it is installed, and how often it was installed differently.

        Raises:
            NotFound: It is not installed.
        """
        name = self.settings.circuit

        def step(tx: Transaction) -> tuple[Attached, int]:
            attached = attach(tx, name, codes, folder)
            return attached, standing.installs(tx, tasks.circuit_id(tx, name) or 0)

        return self.registry.read(step)

    def close(self) -> None:
        """Close both."""
        self.store.close()
        self.registry.close()


def distant(settings: Settings, circuit: CircuitPlan, but: str = "") -> dict[str, Upstream]:
    """Where the services of a circuit are asked that run elsewhere: by $KOALJA_SERVICES, or nowhere.

    Raises:
        NotFound: The task asks one that has no address.
    """
    addresses = dict(word.partition("=")[::2] for word in settings.services.split())
    wanted = {
        one.name
        for name, plan in circuit.tasks.items()
        if name == settings.task
        for one in circuit.asked(plan)
    }
    missing = sorted(wanted - set(addresses) - {but})
    if missing:
        raise NotFound(
            f"task {settings.task} asks {', '.join(missing)}, whose address is not known here",
            why="KOALJA_SERVICES does not name it",
            cure="koalja-fn deploy again",
        )
    return {
        plan.name: Relayed(addresses.get(plan.name, ""))
        for plan in circuit.tasks.values()
        if plan.task.service and plan.name != but
    }


class Installed:
    """The circuit as it is installed now, for who runs no program: read again when it was installed anew."""

    def __init__(self, joined: Joined) -> None:
        self._joined = joined
        self._attaching = threading.Lock()
        self._known: tuple[CircuitPlan, int] | None = None

    def plan(self) -> CircuitPlan:
        """Its plan.

        Raises:
            NotFound: It is not installed.
        """
        known = self._known
        if known is not None:
            circuit = known[0].id
            if self._joined.registry.peek(lambda tx: standing.installs(tx, circuit)) == known[1]:
                return known[0]
        with self._attaching:
            attached, installs = self._joined.attached({}, Path("/"))
            self._known = (attached.plan, installs)
            return attached.plan


class TimelyCaller(Caller):
    """Calls programs; where it was the request's end that cut one off it says what to do about it.

    `own` is the timeout that the wiring gives the task, in seconds.
    """

    own: float | None = None

    def call(
        self, job: Job, stop: Cancel | None = None, began: Callable[[int], None] = lambda _: None
    ) -> Result:
        """Run `job` to its end, as `Caller.call` does."""
        result = super().call(job, stop, began)
        cut = job.timeout is not None and (self.own is None or job.timeout < self.own)
        if result.reason is not Reason.TIMEOUT or not cut:
            return result
        cure = "what may take longer than a request says `mode = job`"
        return replace(result, message=f"{result.message}, which is how long a request may be\n  try: {cure}")


class Bench:
    """The task of this image with its program: what `post` needs besides the registry."""

    def __init__(self, joined: Joined) -> None:
        self._joined = joined
        name = joined.settings.task
        layers = Path(__file__).resolve().parents[LAYERS_UP - 1]
        found = noting.opened(Path.cwd(), layers)
        if name not in found.located:
            raise NotFound(
                f"this image has no program for task {name!r}",
                why=f"it has: {', '.join(sorted(found.located)) or 'none'}",
                cure="koalja-fn deploy again, or set KOALJA_TASK",
            )
        self._located = found.located[name]
        self._folder = found.folder
        self._variables = noting.layer_variables(layers)
        self._proxy: Proxy | None = None
        self.caller = TimelyCaller(joined.store, joined.scratch / "work")

    def post(self) -> Post:
        """The task as it is installed now.

        Raises:
            NotFound: The circuit is not installed, or no longer has the task.
        """
        joined, name = self._joined, self._joined.settings.task
        attached, installs = joined.attached({name: self._located}, self._folder)
        if name not in attached.plan.tasks:
            raise NotFound(
                f"circuit {joined.settings.circuit} has no task {name!r} any more",
                why="it was deployed without it",
                cure="koalja-fn deploy, which removes what is left of it",
            )
        plans = {**attached.plan.tasks, name: self._with_variables(attached.plan.tasks[name])}
        circuit = replace(attached.plan, tasks=plans)
        self.caller.own = plans[name].task.timeout
        if not attached.current(name):
            telling.say(
                f"task {name} was deployed with other code, {attached.versions[name]}; this is"
                f" {self._located.version}, which leaves the work to it"
            )
        executor = Executor(joined.registry, joined.store, self.caller, circuit, self.lookups(circuit))
        return Post(circuit, plans[name], installs, attached.current(name), executor)

    def lookups(self, circuit: CircuitPlan) -> Asked | None:
        """Whom the task's program may ask; None where it asks nobody."""
        plan = circuit.tasks[self._joined.settings.task]
        if plan.task.service or not asks(plan):
            return None
        if self._proxy is None:
            self._proxy = Proxy(self._joined.store, self._joined.registry.clock)
        return Asked(self._proxy, circuit, distant(self._joined.settings, circuit))

    def _with_variables(self, plan: TaskPlan) -> TaskPlan:
        """The plan with what layers of libraries ask for; what the wiring says stands."""
        env = {**self._variables, **dict(plan.task.env)}
        return replace(plan, task=replace(plan.task, env=tuple(env.items())))

    def close(self) -> None:
        """Clear the scratch folders."""
        if self._proxy is not None:
            self._proxy.close()
        self.caller.close()
