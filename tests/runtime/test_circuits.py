"""Circuits as they are deployed: processes for each task, an entry, and a broker between them."""

from __future__ import annotations

from tests.runtime.cluster import wait_for
from tests.runtime.conftest import Deploy

CHAIN = """
[c]
(in) double (twice)
    run = cat {in} {in}
(twice[2]) pair (pairs)
    run = cat {twice}
"""


def test_values_run_through_a_chain_of_services_and_come_out_once(deploy: Deploy) -> None:
    cluster = deploy(CHAIN)
    for n in range(6):
        assert cluster.send("in", f"{n}".encode(), Content_Type="text/plain") == 202
    wait_for(lambda: len(cluster.contents("pairs")) == 3, what=cluster.logs())
    assert cluster.contents("pairs") == ["0011", "2233", "4455"]
    assert cluster.findings() == []
    assert cluster.broker.wrong == []
    assert {d.status for d in cluster.broker.deliveries} == {202}
