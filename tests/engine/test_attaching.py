"""Attaching: a process without the circuit's folder learns its wiring from the registry."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from workbench import Workbench

from koalja_fn.engine import claiming, forming
from koalja_fn.engine.attaching import attach
from koalja_fn.errors import NotFound
from koalja_fn.plain import circuit_of, plain_circuit
from koalja_fn.wiring import read

Opener = Callable[[str], Workbench]

RICH = """[rich]
    retries = 1
(a[10/2] as readings, b passive, c[2-4] ordered) join (out, side)
    policy = swap
    rate = 5/s
    within = 3s
    env.LEVEL = high
    concurrency = 3
(out + side as both, seen implicit) last ()
    backlog = 10
    run = cat {both}
() tick (a)
    every = 1h
wire a
    type = text/plain
    keep = 7d
wire seen
    at = https://example.org
"""


def test_a_circuit_becomes_plain_data_and_the_same_circuit_again() -> None:
    circuit = read(RICH, file="x.koalja", default_name="x").circuit
    assert circuit is not None
    told = json.loads(json.dumps(plain_circuit(circuit)))
    again = circuit_of(told)
    assert (again.tasks, dict(again.wires)) == (circuit.tasks, dict(circuit.wires))
    assert plain_circuit(again) == told


def test_the_attached_plan_is_the_installed_one(bench: Opener) -> None:
    made = bench(RICH)
    attached = made.registry.read(lambda tx: attach(tx, "rich", {}))
    assert attached.plan.wires == made.plan.wires
    assert attached.plan.cyclic == made.plan.cyclic
    for name, plan in made.plan.tasks.items():
        other = attached.plan.tasks[name]
        assert (other.id, other.task, other.spec, other.generation, other.wires) == (
            plan.id,
            plan.task,
            plan.spec,
            plan.generation,
            plan.wires,
        )
        assert attached.versions[name] == plan.code.version
        assert attached.current(name)


def test_it_forms_and_claims_as_the_installer_would(bench: Opener) -> None:
    made = bench("[pair]\n(x[2]) join (y)\n")
    made.send("x", "1", "2")
    attached = made.registry.read(lambda tx: attach(tx, "pair", dict(codes(made))))
    plan = attached.plan.tasks["join"]
    assert made.transact(lambda tx: forming.form(tx, made.clock, plan)).formed == 1
    claims = made.transact(lambda tx: claiming.claim(tx, made.clock(), attached.plan, plan, "pod", 1, 30.0))
    assert [claim.plan.code.command for claim in claims] == [("cat",)]


def test_after_a_rewiring_the_old_plan_is_stale_and_a_new_one_is_to_be_had(bench: Opener) -> None:
    made = bench("[pair]\n(x[2]) join (y)\n")
    old = made.registry.read(lambda tx: attach(tx, "pair", dict(codes(made))))
    made.wire("[pair]\n(x[3]) join (y)\n")
    made.send("x", "1", "2", "3")
    with pytest.raises(forming.Stale):
        made.transact(lambda tx: forming.form(tx, made.clock, old.plan.tasks["join"]))
    new = made.registry.read(lambda tx: attach(tx, "pair", dict(codes(made))))
    assert made.transact(lambda tx: forming.form(tx, made.clock, new.plan.tasks["join"])).formed == 1


def test_other_code_than_the_installed_is_not_current(bench: Opener) -> None:
    from dataclasses import replace

    made = bench("[pair]\n(x) join (y)\n")
    mine = {"join": replace(made.plan.tasks["join"].code, version="sha256:" + "0" * 64)}
    assert not made.registry.read(lambda tx: attach(tx, "pair", mine)).current("join")


def test_a_circuit_that_nobody_installed_is_told(bench: Opener) -> None:
    made = bench("[pair]\n(x) join (y)\n")
    with pytest.raises(NotFound, match="not installed"):
        made.registry.read(lambda tx: attach(tx, "other", {}))


def codes(bench: Workbench):
    return {name: plan.code for name, plan in bench.plan.tasks.items()}
