from __future__ import annotations

import pytest

from appliance.streams import languages


@pytest.mark.parametrize(
    ("said", "tag"),
    [
        ("eng", "en"),
        ("kor", "ko"),
        ("deu", "de"),
        ("ger", "de"),
        ("fre", "fr"),
        ("zho", "zh"),
        ("KOR", "ko"),
        ("ko", "ko"),
        ("pt-BR", "pt-BR"),
        ("por_BR", "pt-BR"),
        ("haw", "haw"),
        ("und", "und"),
        ("", "und"),
        ("English", "und"),
        ('en",URI="http://elsewhere', "und"),
    ],
)
def test_a_language_is_named_by_its_shortest_code(said, tag):
    assert languages.tag(said) == tag


def test_no_code_stands_for_two_languages():
    entries = [entry.replace(":", ",").split(",") for entry in languages.SHORT.split()]
    codes = [code for entry in entries for code in entry]

    assert len(codes) == len(set(codes))
    assert all(len(short) == 2 and {len(code) for code in long} == {3} for short, *long in entries)
