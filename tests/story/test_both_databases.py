"""The same history tells the same stories, whether SQLite or PostgreSQL keeps it."""

from collections.abc import Iterator

import pytest
from builder import World, weather
from test_plans import STORIES, page

from tests.postgres.schemas import empty_registry


@pytest.fixture(scope="module")
def worlds(tmp_path_factory) -> Iterator[tuple[World, World]]:
    with empty_registry() as where:
        made = [weather(tmp_path_factory.mktemp("weather"), address) for address in ("", where)]
        for world in made:
            world.feed("report", "mean", 0, 1, "mean", 0)
            world.pass_over("report", "mean", 0, 0)
        yield made[0], made[1]
        for world in made:
            world.registry.close()


@pytest.mark.parametrize("name", STORIES)
def test_a_story_is_the_same(worlds: tuple[World, World], name: str) -> None:
    one, other = (world.read(lambda tx: STORIES[name](tx, page(tx))) for world in worlds)
    assert one == other
    assert repr(one) == repr(other)
