"""In the console of a circuit, whose registry may have others, what is listed is that circuit's."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from koalja_fn.commands import main
from koalja_fn.engine.installing import install
from koalja_fn.program.folder import open_circuit
from koalja_fn.registry import connect


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two circuits in one registry, `late` wired up last."""
    registry = connect(f"sqlite:{tmp_path / 'registry.db'}")
    for name in ("early", "late"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "it.koalja").write_text(f"[{name}]\n({name}-in) {name}-task ({name}-out)\n    run = cat\n")
        opened = open_circuit(folder)
        assert opened.circuit is not None
        circuit, codes = opened.circuit, opened.located
        registry.transact(lambda tx: install(tx, registry.clock(), circuit, folder, codes, ""))  # noqa: B023
    registry.close()
    monkeypatch.setenv("KOALJA_REGISTRY", f"sqlite:{tmp_path / 'registry.db'}")
    monkeypatch.setenv("KOALJA_STORE", f"file:{tmp_path / 'objects'}")


def said(*words: str) -> str:
    result = CliRunner().invoke(main, list(words))
    assert result.exit_code == 0, result.output
    return str(result.output)


@pytest.mark.usefixtures("registry")
def test_a_console_tells_of_its_own_circuit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "late-task" in said("map")
    assert all(name in said("list") for name in ("early-task", "late-task"))
    monkeypatch.setenv("KOALJA_ROLE", "console")
    monkeypatch.setenv("KOALJA_CIRCUIT", "early")
    for words in (["map"], ["list"], ["list", "tasks"], ["list", "wires"]):
        told = said(*words)
        assert "early" in told
        assert "late" not in told
