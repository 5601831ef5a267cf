from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from appliance.__main__ import VERBS, main, parse
from tests.shell import appliance, command, environment, process


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_module_and_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    assert VERBS[verb][:30] in capsys.readouterr().out


def test_help_lists_every_verb_within_100_columns(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(f"  {verb} " in text for verb in VERBS)
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    "arguments", [["--config", "a.yaml", "--json", "list"], ["list", "--json", "--config", "a.yaml"]]
)
def test_common_options_may_stand_on_either_side_of_the_verb(arguments: list[str]) -> None:
    options = parse(arguments)
    assert (options.verb, options.config, options.json) == ("list", Path("a.yaml"), True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "69 a dependency does not answer"),
        ("fly", "there is no verb fly; --help lists them"),
        ("lits", "did you mean `list`?"),
        ("show", "required: VIDEO"),
        ("show seven", "'seven' is not the id of a video: a number, as `video-appliance list` shows it"),
        ("cancel 0", "'0' is not the id of a video"),
        ("retry 99999999999999999999", "is not the id of a video"),
        ("submit a.mp4 --tenant x", "'x' is not the id of a tenant"),
        ("submit a.mp4 --priority 9999999999", "is not a priority"),
        ("list --limit 0", "'0' is not a number above 0"),
        ("config", "required: show|validate|schema"),
        ("encode a.mp4", "required: --out"),
    ],
)
def test_a_command_line_that_cannot_be_read_is_status_2_and_says_why(
    arguments: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments.split())
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_missing_configuration_is_status_78_and_says_which_file(tmp_path: Path) -> None:
    ran = process("list", "--config", tmp_path / "none.yaml", "--json")
    assert ran.status == 78
    assert str(tmp_path / "none.yaml") in ran.err
    assert "→" in ran.err
    assert "Traceback" not in ran.err
    assert ran.last["error"]["code"] == "configuration"


def test_every_mistake_of_the_configuration_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("queue:\n  fast_akc: true\nlease:\n  renew_seconds: 2m\n")
    ran = process("run", "--config", path)
    assert ran.status == 78
    assert "did you mean `fast_ack`?" in ran.err
    assert "renew_seconds" in ran.err


def test_a_database_that_does_not_answer_is_status_69_with_a_hint(settings: Path) -> None:
    text = settings.read_text()
    settings.write_text(text.replace(text.split("@127.0.0.1:")[1].split("/")[0], "9", 1))
    ran = appliance("list", "--config", settings, "--json")
    assert ran.status == 69
    assert ran.last["error"]["code"] == "postgres"
    assert "→" in ran.err


def test_a_mistake_of_ours_is_a_sentence_and_a_trace_only_with_debug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("appliance.cli.version.main", lambda options: 1 // 0)
    assert main(["version"]) == 1
    assert "ZeroDivisionError" in (text := capsys.readouterr().err)
    assert "Traceback" not in text
    assert main(["version", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_ends_with_130_and_no_complaint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("appliance.cli.version.main", interrupted)
    assert main(["version"]) == 130
    assert capsys.readouterr().err == ""


def test_a_reader_that_leaves_is_no_error() -> None:
    with subprocess.Popen(
        command("config", "show", "--config", "/dev/null"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment({"PYTHONUNBUFFERED": "1"}),
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_version_answers_whatever_the_configuration_says(tmp_path: Path) -> None:
    ran = process("version", "--json")
    assert ran.status == 0
    assert {"version", "python", "ffmpeg"} <= ran.last.keys()
    assert Path(ran.last["ffprobe_program"]).is_file()
    broken = appliance("version", "--json", "--config", tmp_path / "none.yaml")
    assert broken.status == 0
    assert "none.yaml" in broken.last["ffmpeg"]
