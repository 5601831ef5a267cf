from __future__ import annotations

import os
from pathlib import Path

from appliance.encoder.lookout import Lookout


def test_one_of_a_host_looks_and_the_next_once_it_has_left(tmp_path: Path) -> None:
    first, second = Lookout(tmp_path / "lookout"), Lookout(tmp_path / "lookout")
    assert first.ours()
    assert first.ours()
    assert not second.ours()
    first.leave()
    assert second.ours()
    assert not first.ours()
    first.leave()  # what is not ours is not let go
    assert second.ours()


def test_whoever_dies_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "lookout"
    if (child := os.fork()) == 0:
        os._exit(0 if Lookout(path).ours() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert Lookout(path).ours()


def test_without_a_lock_everybody_looks(tmp_path: Path) -> None:
    for _ in range(2):
        lookout = Lookout(tmp_path / "nowhere" / "lookout")
        assert lookout.ours()
        lookout.leave()
