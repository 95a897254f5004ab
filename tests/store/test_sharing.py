"""Many threads and several processes on one store."""

import threading
from pathlib import Path

from koalja_fn.store import FileStore

from .conftest import LARGE


def test_threads_may_put_the_same_and_different_things(store: FileStore) -> None:
    wrong: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(20):
                same = store.put_bytes(LARGE)
                own = store.put_bytes(b"%d %d" % (number, i))
                assert store.read(same.digest) == LARGE
                assert store.read(own.digest) == b"%d %d" % (number, i)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(list(store.digests())) == 1 + 6 * 20


def test_two_stores_on_one_folder_see_each_others_objects(store: FileStore, root: Path) -> None:
    other = FileStore(root)
    for data in (b"small", LARGE):
        name = store.put_bytes(data).digest
        assert other.read(name) == data
        assert other.put_bytes(data).digest == name
    assert other.moved().written == 0
    other.close()
    assert store.read(name) == LARGE
