from __future__ import annotations

import json
from dataclasses import fields
from typing import get_type_hints

import pytest

from appliance.adapters.postgres.reports import AtWork
from appliance.supervisor.board import SlotView
from appliance.supervisor.dependencies import Seen
from appliance.supervisor.web import shape
from appliance.supervisor.web.shape import Chunk, ChunkMap, Host, Page, Video, fleet, media_origin, page, place, video
from tests.browser.scenes import HERE, SCENES, attempt, running


def told(scene, media_base_url: str = "") -> dict:
    found = page(scene.board, scene.dependencies, scene.now, host=HERE, media_base_url=media_base_url)
    return json.loads(json.dumps(found))


@pytest.mark.parametrize("name", SCENES)
def test_every_field_is_there_in_every_state_and_nothing_else(name):
    found = told(SCENES[name]())
    assert found["shape"] == shape.SHAPE == 1
    for kind, values in (
        (Page, [found]),
        (Video, found["recent"]),
        (ChunkMap, found["chunk_maps"]),
        (Chunk, [chunk for chunks in found["chunk_maps"] for chunk in chunks["chunks"]]),
        (Host, found["fleet"]),
    ):
        assert all(set(value) == set(get_type_hints(kind)) for value in values), kind
    assert all(set(slot) == {field.name for field in fields(SlotView)} for slot in found["slots"])
    assert all(set(seen) == {field.name for field in fields(Seen)} for seen in found["dependencies"].values())


def test_the_fields_that_programs_rely_on():
    """Written down once more, so that a renamed one is seen."""
    found = told(SCENES["busy"]())
    assert set(found) == {
        *(
            "shape",
            "version",
            "host",
            "pid",
            "uptime_seconds",
            "stuck_seconds",
            "draining",
            "unready",
            "notices",
            "slots",
        ),
        *("backlog", "backlog_age_seconds", "oldest_due_seconds", "history", "seen_age_seconds", "recent"),
        *("chunk_maps", "fleet", "dependencies", "sandbox", "notice", "protected"),
    }
    assert set(found["slots"][0]) == {
        *("slot", "state", "pid", "since_seconds", "restarts", "video_id", "percent", "step", "speed"),
        *("remaining_seconds", "tenant_id", "role", "chunk", "elapsed_seconds", "leaves_in_seconds"),
        "heartbeat_age_seconds",
    }


def test_a_row_shows_no_file_no_title_and_of_the_receipt_only_figures():
    row = attempt(7, 3)
    row["receipt"] |= {"chapters": [{"title": "A secret title"}], "warnings": ["secret.mp4: bad", "x"]}
    found = video(row, "https://cdn.example")
    assert "secret" not in json.dumps(found)
    assert found["receipt"]["warnings"] == 2


def test_the_figures_of_the_whole_stream_come_before_those_of_one_attempt():
    row = attempt(7, 3)
    row["receipt"] |= {"media_seconds": 60.0, "wall_seconds": 20.0, "cpu_seconds": 5.0, "video": {"cpu_seconds": 50.0}}
    found = video(row, "")
    assert (found["speed"], found["receipt"]["cpu_seconds"]) == (3.0, 50.0)


def test_posters_and_players_only_where_there_is_an_address_and_a_stream():
    row = attempt(7, 3, hls_path="hls/7/1-ab c/master.m3u8")
    found = video(row, "https://cdn.example/x/")
    assert found["master"] == "https://cdn.example/x/hls/7/1-ab%20c/master.m3u8"
    assert found["poster"] == "https://cdn.example/x/hls/7/1-ab%20c/poster.jpg"
    assert (video(row, "")["master"], video(row, "")["poster"]) == (None, None)
    sound = attempt(7, 3)
    sound["receipt"] = {**sound["receipt"], "rungs": ["audio"]}
    assert (bool(video(sound, "https://c")["master"]), video(sound, "https://c")["poster"]) == (True, None)
    # the row's stream is that of another attempt
    assert video(attempt(7, 3, outcome="reclaimed"), "https://c")["master"] is None
    assert video(running(7, 3), "https://c")["master"] is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("enc-1:0:4100", ("enc-1", 0)),
        ("fd00::7:12:99", ("fd00::7", 12)),
        ("worker-a", ("worker-a", None)),
        ("a:b:c", ("a:b:c", None)),
    ],
)
def test_a_worker_s_place(name, found):
    assert place(name) == found


def test_the_fleet_begins_with_this_host_even_when_the_database_has_not_seen_it():
    found = fleet(["enc-2:0:1", "enc-2:1:2"], {"enc-3": 60.0}, "enc-9")
    assert [(host["host"], host["busy"], host["seen_seconds"]) for host in found] == [
        ("enc-9", 0, None),
        ("enc-2", 2, None),
        ("enc-3", 0, 60.0),
    ]


def test_what_this_host_has_begun_since_the_database_was_asked_is_in_the_map():
    scene = SCENES["busy"]()
    rows = [{"number": number, "state": "TODO", "worker": None, "assisted": False} for number in range(16)]
    rows[3] |= {"state": "DONE", "worker": "enc-2:1:9"}
    scene.board.at_work = AtWork([], {}, [{"video_id": 4715, "tenant_id": 1, "owner": None, "chunks": rows}])
    chunks = told(scene)["chunk_maps"][0]["chunks"]
    assert chunks[15] == {"number": 15, "state": "RUNNING", "host": HERE, "slot": 0, "assisted": False, "here": True}
    assert (chunks[3]["state"], chunks[3]["host"], chunks[3]["here"]) == ("DONE", "enc-2", False)
    assert [chunk["state"] for chunk in chunks].count("TODO") == 14


def test_before_anything_is_known_nothing_is_made_up():
    scene = SCENES["idle"]()
    board = type(scene.board)(0.0, 0.0)
    scene.board = board
    found = told(scene)
    assert (found["backlog"], found["backlog_age_seconds"], found["seen_age_seconds"]) == (None, None, None)
    assert (found["recent"], found["fleet"], found["chunk_maps"], found["history"]) == ([], [], [], [])


def test_the_origin_of_media():
    assert media_origin("https://cdn.example:8443/a/b") == "https://cdn.example:8443"
    assert media_origin("") == ""
