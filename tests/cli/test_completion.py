"""Each script is asked in its own shell what may follow."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.__main__ import VERBS, parsers
from appliance.cli.completion import offers
from appliance.domain.video import Status
from tests.shell import appliance

BASH = """
source {script}
COMP_WORDS=({words}); COMP_CWORD=$(({count} - 1)); _video_appliance; printf '%s\\n' "${{COMPREPLY[@]}}"
"""
#: compsys needs a terminal: what it would be offered is printed instead.
ZSH = """
_describe() {{ local one; for one in ${{(P)2}}; do print -r -- ${{one%%:*}}; done }}
compadd() {{ print -rl -- ${{(P)2}} }}
_files() {{ print -rl -- *(N) }}
fpath=({directory} $fpath); autoload -Uz _video-appliance
words=({words}); CURRENT={count}; PREFIX=$words[-1]; _video-appliance
"""
FISH = "source {script}; complete --do-complete={line} | cut -f 1"
SHELLS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


@pytest.fixture(params=SHELLS)
def complete(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., set[str]]:
    """What this shell offers for the last word, in a directory with one recording."""
    shell = request.param
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "_video-appliance"
    script.write_text(appliance("completion", shell).out)
    here = tmp_path / "here"
    here.mkdir()
    (here / "lecture.mp4").touch()

    def ask(*words: str) -> set[str]:
        all_words = ["video-appliance", *words]
        places = {"script": script, "directory": tmp_path, "count": len(all_words)}
        code = SHELLS[shell].format(**places, words=shlex.join(all_words), line=shlex.quote(" ".join(all_words)))
        options = ["--no-config"] if shell == "fish" else ["-f"] if shell == "zsh" else ["--norc"]
        done = subprocess.run([shell, *options, "-c", code], capture_output=True, text=True, check=True, cwd=here)
        assert done.stderr == ""
        # zsh offers every match and filters by itself.
        return {word for word in done.stdout.split() if word.startswith(words[-1])}

    return ask


def test_verbs_options_choices_and_files_are_offered(complete: Callable[..., set[str]]) -> None:
    assert complete("re") == {verb for verb in VERBS if verb.startswith("re")}
    assert complete("list", "--st") == {"--status"}
    assert complete("config", "val") == {"validate"}
    assert complete("--json", "encode", "lec") == {"lecture.mp4"}
    assert complete("top", "lec") == set()


def test_what_is_offered_comes_from_the_parsers() -> None:
    found = offers(parsers())
    assert list(found) == list(VERBS)
    assert {*Status} <= {*found["list"].words}
    assert {"--limit", "--status", "--config", "--json", "--help"} == {*found["list"].options}
    assert (found["encode"].files, found["show"].files) == (True, False)


def test_an_unknown_shell_is_status_2_and_a_script_is_no_json() -> None:
    with pytest.raises(SystemExit) as ended:
        appliance("completion", "tcsh")
    assert ended.value.code == 2
    assert appliance("completion", "bash", "--json").last["error"]["code"] == "no_json"
