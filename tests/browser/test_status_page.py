"""The status page in a real browser. Its pictures are made by pictures.py."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.browser.pictures import DESK, KEPT, PHONE, PICTURES, media
from tests.browser.player import in_chromium
from tests.browser.scenes import SCENES, served

Report = dict[str, Any]
#: name → (scene, with media, what the browser is like and what is done in it)
VISITS: dict[str, tuple[str, bool, dict[str, Any]]] = {
    **{
        f"{scene} {scheme}": (scene, False, {**DESK, "scheme": scheme})
        for scene in SCENES
        for scheme in ("light", "dark")
    },
    "phone": ("broken", True, PHONE),
    "keys": ("busy", True, {**DESK, "keys": True}),
    "cut": ("busy", False, {**DESK, "cut": True}),
    "moving": ("busy", False, {**DESK, "still": False}),
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """One browser for all of it."""
    with ExitStack() as stack:
        url = stack.enter_context(media(tmp_path_factory.mktemp("media")))
        visits = [
            {"site": stack.enter_context(served(SCENES[scene](), url if with_media else "")), **browser}
            for scene, with_media, browser in VISITS.values()
        ]
        found = in_chromium("status_page.mjs", visits, ("playwright-core",))
        for visit, report in zip(visits, found, strict=True):
            report["origins"] = {visit["site"].rstrip("/"), url.rstrip("/")}
        return dict(zip(VISITS, found, strict=True))


@pytest.fixture(params=VISITS)
def report(request, reports) -> Report:
    return reports[request.param]


def test_nothing_stands_out_too_little_to_be_read(report):
    assert report["contrasts"]["looked"] > 50
    assert report["contrasts"]["poor"] == []


def test_nothing_is_wrong_in_the_console_and_everything_has_a_name(report):
    assert (report["errors"], report["unnamed"]) == ([], [])


def test_headings_go_down_one_level_at_a_time(report):
    levels = [int(name[1]) for name in report["landmarks"]]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_it_only_reads_and_asks_nobody_else(report):
    assert {method for method, _ in report["requests"]} == {"GET"}
    asked = {f"{address.scheme}://{address.netloc}" for address in (urlsplit(url) for _, url in report["requests"])}
    assert asked <= report["origins"]


def test_without_media_base_url_the_page_speaks_to_the_supervisor_alone(reports):
    paths = {urlsplit(url).path for _, url in reports["busy light"]["requests"]}
    assert paths == {"/", "/page.css", "/page.js", "/icon.svg", "/status.json"}


def test_nothing_sticks_out_of_a_desk_or_of_a_phone(report):
    assert report["overflow"] <= 0


def test_nothing_moves_for_those_who_want_it_still(reports):
    assert [reports[name]["animations"] for name in ("busy light", "busy dark")] == [0, 0]
    assert reports["moving"]["animations"] > 0


def test_no_file_name_and_no_title_is_shown(report):
    assert "secret" not in report["text"]


@pytest.mark.parametrize(
    ("name", "title", "words"),
    [
        ("idle", "0/4 busy · 0 waiting · enc-1", ["ready", "4 idle", "for 40 min", "50:23", "at 3.7×"]),
        (
            "busy",
            "4/4 busy · 7 waiting · enc-1",
            [
                *(
                    "ready",
                    "Video 4715 of tenant 12 · encode, chunk 15",
                    "31 %",
                    "3.4×",
                    "12 min",
                    "helps with chunk 17",
                ),
                "15 of 52 done, 2 by helpers; running 15: here slot 0, 16: enc-2 slot 1 (helps), 17: here slot 2",
                "(helps); 34 to do",
                *("The file holds neither a picture nor a sound", "last job 22 min ago", "not asked"),
            ],
        ),
        (
            "draining",
            "draining · 3/4 busy · 7 waiting · enc-1",
            [
                "draining: EC2 takes this spot instance away",
                "may take 69 s more",
                "under way: no new work is taken",
            ],
        ),
        (
            "broken",
            "not ready · 3/4 busy · 7 waiting · enc-1",
            [
                *(
                    "postgres has not answered; no work is taken meanwhile",
                    "PostgreSQL: connection refused at 10.0.3.7:5432",
                ),
                *("Encoding goes on.", "seen by reconcile, slot 1", "as of 4 min ago", "4 restarts in a row"),
                *("lacks a layer of ffmpeg's cage: landlock", "the database did not say, 3 busy here", "31 %"),
            ],
        ),
    ],
)
def test_what_an_operator_reads(reports, name, title, words):
    found = reports[f"{name} light"]
    assert found["title"] == title
    assert [word for word in words if word not in " ".join(found["text"].split())] == []


def test_by_keyboard_alone(reports):
    keys = reports["keys"]["keys"]
    names = [name for name, _ in keys["order"]]
    assert names[0] == "plot"
    assert names[1:5] == [
        *("Play video 4712", "Receipt of video 4712, attempt 1"),
        *("Play video 4711", "Receipt of video 4711, attempt 1"),
    ]
    assert len(names) == 9, "a plot, four posters and their receipts"
    assert all(seen for _, seen in keys["order"])
    assert keys["reading"].startswith("10:41: ")
    assert "41 encoded, 8 assisted" in keys["receipt"]
    assert (keys["kept"], keys["contrasts"]["poor"]) == ("summary", [])


def test_the_player_plays_and_lets_go(reports):
    keys = reports["keys"]["keys"]
    assert keys["player"] == ["Video 4712", True]
    assert keys["closed"] == [False, False]


def test_a_supervisor_that_does_not_answer_is_said_and_what_was_known_stays(reports):
    cut = reports["cut"]["cut"]
    assert cut["gone"][0] == "no answer"
    assert "The supervisor does not answer (no connection). What stands below is from" in cut["gone"][1]
    assert cut["gone"][2].startswith("no answer · ")
    assert (cut["slots"], cut["poor"]) == (4, [])
    assert cut["back"] == ["ready", "", "4/4 busy · 7 waiting · enc-1"]


def test_the_kept_pictures_are_small_and_all_there():
    sizes = {path.stem: path.stat().st_size for path in KEPT.glob("*.png")}
    assert set(sizes) == set(PICTURES)
    assert {name: size for name, size in sizes.items() if size >= 80_000} == {}
