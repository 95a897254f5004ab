"""Detection: which buildpacks take part in a build, and what each is to provide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from koalja_fn.pack import tomls
from koalja_fn.pack.buildpack import Buildpack, Order, Shelf
from koalja_fn.pack.errors import PhaseError
from koalja_fn.pack.plan import Choice, Member, Plan, groups, read_choices, resolve
from koalja_fn.pack.sandbox import give
from koalja_fn.pack.site import Site

PASS, FAIL = 0, 100


@dataclass(frozen=True, slots=True)
class Detected:
    """What one `bin/detect` said."""

    status: int
    output: str
    choices: tuple[Choice, ...] = ()


def detect(order: Order, shelf: Shelf, site: Site, say: Callable[[str], None]) -> Plan:
    """The first group of the order that passes.

    Raises:
        PhaseError: None does; it tells what each said.
    """
    detector = _Detector(site, say)
    reasons: list[str] = []
    for group in groups(order, shelf, site.exec_env):
        found = detector.group(group)
        if isinstance(found, Plan):
            say("takes part: " + ", ".join(str(member.buildpack) for member in found.members))
            return found
        if found not in reasons:
            reasons.append(found)
    raise PhaseError(
        "no group of buildpacks fits this code",
        phase="detect",
        why="; ".join(reasons) or "the order is empty",
        cure="name buildpacks that fit with --buildpack, or another builder with --builder",
        output=detector.outputs(),
    )


class _Detector:
    """Runs each `bin/detect` once, in however many groups it stands."""

    def __init__(self, site: Site, say: Callable[[str], None]) -> None:
        self._site = site
        self._say = say
        self._seen: dict[str, Detected] = {}

    def group(self, members: Sequence[Member]) -> Plan | str:
        """The group's plan, or why it does not pass."""
        passed: list[Member] = []
        trouble = ""
        for member in members:
            reason = self._against(member.buildpack)
            if not reason:
                passed.append(member)
            elif not member.optional:
                trouble = trouble or reason
        if trouble:
            return trouble
        if not passed:
            return "all buildpacks of the group are optional and none passed"
        choices: Mapping[str, Sequence[Choice]] = {
            m.buildpack.id: self._seen[str(m.buildpack)].choices for m in passed
        }
        return resolve(passed, choices)

    def outputs(self) -> str:
        """What all of them said, for an error."""
        return "".join(
            f"[{name}] exit status {seen.status}\n{seen.output}" for name, seen in self._seen.items()
        )

    def _against(self, buildpack: Buildpack) -> str:
        """Why a buildpack does not take part; empty if it does."""
        machine = self._site.machine
        if not buildpack.fits(machine):
            return f"{buildpack} is not made for {machine}"
        if buildpack.exec_env and not {self._site.exec_env, "*"} & set(buildpack.exec_env):
            return f"{buildpack} is not made for the execution environment {self._site.exec_env}"
        if str(buildpack) not in self._seen:
            self._seen[str(buildpack)] = self._run(buildpack)
        status = self._seen[str(buildpack)].status
        if status == PASS:
            return ""
        said = "says no" if status == FAIL else f"failed with exit status {status}"
        return f"{buildpack} {said}"

    def _run(self, buildpack: Buildpack) -> Detected:
        site = self._site
        path = site.plans / f"{buildpack.key}-{len(self._seen)}.toml"
        path.touch()
        give(path)
        plan = site.seen(path)
        variables = site.variables() | {"CNB_BUILD_PLAN_PATH": plan}
        ran = site.run(buildpack, "detect", [site.seen(site.platform), plan], variables)
        if ran.output.strip():
            self._say(f"[{buildpack.id}] {ran.output.strip()}")
        if ran.status != PASS:
            return Detected(ran.status, ran.output)
        try:
            return Detected(PASS, ran.output, read_choices(tomls.read_toml(path, phase="detect"), buildpack))
        except PhaseError as error:
            error.output = error.output or ran.output
            raise
