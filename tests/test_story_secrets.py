"""F49: canaries in every place where a secret can lie, and a search through everything that anybody can read."""

from __future__ import annotations

import json
import signal
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

from appliance.adapters.ffmpeg.run import Limits, run
from appliance.adapters.ffmpeg.sandbox import LAYERS, Cage
from appliance.domain.secrets import HIDDEN, redacted, secrets_of, without_secrets
from tests.hosts import World, eventually, host
from tests.recordings import lecture
from tests.shell import appliance

#: Where it lies → the canary. Each is what a real one looks like, so that nothing is found by a tell-tale word.
CANARIES = {
    "DSN": "Xq7-dsn-h4Kd9sLw",
    "Redis": "Rk2-red-p0Vb7tNz",
    "AWS secret key": "wJalrXUtnFEMIcanaryK7MDENGbPxRfiCYKEYaws",
    "AWS session token": "FwoGZXIvYXdzEcanaryTOKEN0123456789abcdef",
    "presigned signature": "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
    "presigned credential": "AKIAIOSFODNN7CANARY2%2F20260101%2Fus-east-1%2Fs3%2Faws4_request",
}
PRESIGNED = (
    "https://b.s3.amazonaws.com/lecture.mp4?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential="
    f"{CANARIES['presigned credential']}&X-Amz-Expires=900&X-Amz-Signature={CANARIES['presigned signature']}"
)


def leaks(text: str, *more: str) -> list[str]:
    found = [place for place, canary in CANARIES.items() if canary in text]
    return found + [secret for secret in more if secret in text]


def ask(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
        return str(answer.read().decode())


def test_f49_no_secret_reaches_a_log_a_page_a_metric_a_row_or_a_verb(
    dsn: str, redis_url: str, aws, bucket: str, queue_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARIES["AWS secret key"])
    monkeypatch.setenv("AWS_SESSION_TOKEN", CANARIES["AWS session token"])
    monkeypatch.setenv("PGPASSWORD", CANARIES["DSN"])
    world = World(dsn, redis_url, aws, bucket, queue_url)
    secret_dsn = tmp_path / "dsn"
    secret_dsn.write_text(dsn)
    (password,) = secrets_of(dsn)
    wrong = redis_url.replace(*secrets_of(redis_url), CANARIES["Redis"])  # refused: an outage that is talked about
    good = world.upload(lecture(tmp_path / "lecture.mp4", seconds=1, size="160x90"))
    (bad,) = world.query(
        "INSERT INTO video (tenant_id, status, file_key) VALUES (1, 'UPLOADED', %s) RETURNING id", PRESIGNED
    )
    changes = {"database": {"dsn": "", "dsn_file": str(secret_dsn)}, "redis": {"url": wrong}, "log": {"level": "debug"}}
    seen: dict[str, str] = {}
    with host(world, tmp_path / "host", **changes) as running:
        world.ring(bad["id"])
        aws.client("sqs").send_message(QueueUrl=queue_url, MessageBody=json.dumps({"url": PRESIGNED}))
        eventually(lambda: world.row(bad["id"])["status"] == "FAILED" and world.row(good)["status"] == "READY")
        eventually(lambda: running.events("DEPENDENCY_DOWN") and running.events("SQS_MESSAGE_UNREADABLE"))
        eventually(lambda: "is no file" in ask(running.port, "/status.json"))
        seen |= {path: ask(running.port, path) for path in ("/metrics", "/", "/status.json", "/readyz")}
        running.process.send_signal(signal.SIGUSR1)
        eventually(lambda: running.events("STATE"))
        config = tmp_path / "host" / "appliance.yaml"
        for verb in (["config", "show"], ["show", bad["id"]], ["list"], ["status"]):
            for form in ([], ["--json"]):
                ran = appliance(*verb, *form, "--config", config)
                seen[f"{verb} {form}"] = ran.out + ran.err
    seen["log"] = (tmp_path / "host" / "log").read_text()
    seen["rows"] = str([world.row(bad["id"])["error_reason"], world.attempts(bad["id"]), world.attempts(good)])
    assert {where: found for where, text in seen.items() if (found := leaks(text, password))} == {}
    assert "is no file" in seen["rows"]
    (tried,) = running.events("SANDBOX")
    layers = {name: tried[name] for name in LAYERS}
    assert layers == json.loads(seen["/status.json"])["sandbox"]
    assert all(f'sandbox_layer{{layer="{name}"}} {float(on)}' in seen["/metrics"] for name, on in layers.items())
    assert HIDDEN in seen["log"]


def test_f49_exceptions_that_end_a_verb_hold_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "appliance.yaml"
    settings = {
        "database": {"dsn": f"postgresql://u:{CANARIES['DSN']}@127.0.0.1:1/none"},
        "redis": {"url": f"redis://:{CANARIES['Redis']}@127.0.0.1:1/0"},
        "queue": {"url": "http://127.0.0.1:1/q"},
        "storage": {"bucket": "a-bucket"},
        "aws": {"region": "us-east-1", "endpoint_url": "http://127.0.0.1:1"},
    }
    for broken in (
        {},
        {"database": {"dsn": f"postgresql://u:{CANARIES['DSN']}@[x/none"}},
        {"web": {"port": PRESIGNED}},
    ):
        config.write_text(yaml.safe_dump({**settings, **broken}))
        for verb in (["status"], ["migrate", "--debug"], ["config", "validate"], ["config", "show"]):
            ran = appliance(*verb, "--config", config)
            assert leaks(ran.out + ran.err) == []


def test_f49_a_program_of_ours_inherits_no_secret_in_its_environment_or_its_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARIES["AWS secret key"])
    monkeypatch.setenv("PGPASSWORD", CANARIES["DSN"])
    python = str(Path(sys.executable).resolve())
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    seen: list[str] = []

    class Seen(Exception):
        pass

    def look() -> None:
        if seen:
            raise Seen

    def read(line: str) -> None:
        seen.extend(Path(f"/proc/{line}/{name}").read_bytes().decode() for name in ("environ", "cmdline"))

    limits = Limits(60, 60, 1 << 30, Cage(readable=(sys.base_prefix,)))
    with pytest.raises(Seen):
        run([python, "-I", "-S", "-c", script], directory=tmp_path, limits=limits, check=look, on_line=read)
    assert seen[0].startswith(("PATH=", "LANG="))
    assert leaks("".join(seen)) == []


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://user:{}@host/name",
        "redis://:{}@h:1/0 and then more @ signs",
        "host=h password='{}' dbname=d",
        "PGPASSWORD={}",
        '{{"password": "{}"}}',
        "{{'aws_secret_access_key': '{}'}}",
        "SecretAccessKey={}&x=1",
        "sessionToken: {}",
        "Authorization: Bearer {}",
        '{{"Authorization": "Basic {}"}}',
        "authorization: AWS4-HMAC-SHA256 Credential=x/y, SignedHeaders=host, Signature={}",
        "GET /k?X-Amz-Security-Token={}&x=1",
        "https://h/k?a=1&Signature={}&Expires=1",
        "https://h/k?X-Goog-Signature={}",
        "https://h/k?sv=1&sig={}",
        "key id AKIA{} is not known",
    ],
)
def test_f49_what_looks_like_a_secret_is_hidden_and_the_rest_stays(text: str) -> None:
    secret = "Q7H4KD9SLW2PZX0V"
    hidden = redacted(text.format(secret))
    assert secret not in hidden
    assert HIDDEN in hidden


@pytest.mark.parametrize(
    "text",
    [
        "There is no file sources/lecture.mp4 in storage.",
        "FATAL: password authentication failed for user “u”",
        "basic authentication is not known here",
        "http://127.0.0.1:5000/123456789012/queue",
        "lease token 5d672d79-c15b-1316-2d92-79b0855cfba6",
        "signature verification failed",
    ],
)
def test_f49_what_is_no_secret_is_not_touched(text: str) -> None:
    assert redacted(text) == text


def test_f49_a_known_value_is_hidden_wherever_it_stands_and_words_are_not() -> None:
    values = secrets_of("postgresql://u:s3cr3t-value@h/d") | secrets_of("host=h password='a b c d e'") | {"abc"}
    assert without_secrets({"x": ["is s3cr3t-value here", 7, None]}, values) == {"x": [f"is {HIDDEN} here", 7, None]}
    assert redacted("a b c d e, abc", values) == f"{HIDDEN}, abc"
