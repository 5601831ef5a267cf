from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from fractions import Fraction
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.shell import appliance
from tests.streams.trees import PLAYLISTS, make_tree, plan_of, with_extras


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a whole stream in it, its master a few levels down."""
    top = tmp_path_factory.mktemp("published")
    with_extras(make_tree(plan_of(Fraction(25), Fraction(4)), tmp_path_factory.mktemp("work"))).write(top)
    return top


@pytest.fixture
def broken(published: Path) -> Iterator[Path]:
    """The same without one segment."""
    segment = next(published.rglob("180p_00002.m4s"))
    data = segment.read_bytes()
    segment.unlink()
    yield published
    segment.write_bytes(data)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Silent."""


@pytest.fixture
def address(published: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(published))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("target", ["", PLAYLISTS, f"{PLAYLISTS}/master.m3u8", f"{PLAYLISTS}/90p.m3u8"])
def test_a_whole_stream_is_found_by_its_directory_or_playlist_and_called_whole(published: Path, target: str) -> None:
    ran = appliance("verify", published / target)
    assert ran.status == 0
    assert ran.out.splitlines()[-1].startswith("WHOLE (")


def test_a_broken_rule_is_printed_with_its_source_and_the_object(broken: Path) -> None:
    ran = appliance("verify", broken)
    assert ran.status == 1
    (line,) = [line for line in ran.out.splitlines() if line.startswith("RFC 8216 §3, §4 (readable)")]
    assert "180p_00002.m4s" in line
    assert ran.out.splitlines()[-1].startswith("BROKEN: 1 rules, 1 findings")


def test_the_verdict_as_json(broken: Path) -> None:
    ran = appliance("verify", broken, "--json")
    assert ran.status == 1
    (finding,) = ran.last["broken"]
    assert (finding["rule"], finding["source"]) == ("readable", "RFC 8216 §3, §4")
    assert finding["object"].endswith("180p_00002.m4s")
    assert ran.last["whole"] is False
    assert ran.last["not_looked_into"] == []


def test_over_http_the_delivery_is_judged_too(address: str) -> None:
    """Python's own server compresses nothing."""
    ran = appliance("verify", f"{address}/{PLAYLISTS}/master.m3u8?session=1", "--json")
    assert ran.status == 1
    assert {finding["source"] for finding in ran.last["broken"]} == {"Apple 10.1"}
    assert ran.last["read"]["segments"] == 15


@pytest.mark.parametrize("target", ["nowhere", "http://127.0.0.1:1/master.m3u8", "/"])
def test_what_cannot_be_reached_is_no_verdict(tmp_path: Path, target: str) -> None:
    ran = appliance("verify", target if target != "/" else tmp_path)
    assert ran.status == 69
    assert "→" in ran.err


def test_a_playlist_written_for_a_server_is_read_from_files(published: Path) -> None:
    """Its addresses carry a query, or are escaped."""
    playlist = published / PLAYLISTS / "90p.m3u8"
    asked = playlist.with_name("asked.m3u8")
    asked.write_text(playlist.read_text().replace(".m4s", ".m4s?token=a/b").replace("media", "%6dedia"))
    assert appliance("verify", asked).status == 0
    asked.unlink()


def test_without_a_target_it_is_a_mistake_of_the_command_line() -> None:
    with pytest.raises(SystemExit) as ended:
        appliance("verify")
    assert ended.value.code == 2
