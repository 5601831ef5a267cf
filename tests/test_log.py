from __future__ import annotations

import contextvars
import io
import json
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest
import structlog

from appliance import log


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """The process's log, into memory; afterwards structlog and logging are as they were."""
    handlers, level = logging.root.handlers[:], logging.root.level
    memory = io.StringIO()
    log.configure("info", memory)
    yield memory
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    logging.root.handlers[:], logging.root.level = handlers, level


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_that_begins_with_time_level_and_event(stream: io.StringIO) -> None:
    structlog.get_logger().info("SQS_MESSAGE_RECEIVED", video_id=7, note="두 줄\nlines")
    (line,) = lines(stream)
    assert list(line) == ["time", "level", "event", "video_id", "note"]
    assert (line["level"], line["event"], line["video_id"]) == ("info", "SQS_MESSAGE_RECEIVED", 7)
    assert "두 줄" in stream.getvalue()


def test_lines_below_the_level_are_not_written(stream: io.StringIO) -> None:
    structlog.get_logger().debug("details")
    assert stream.getvalue() == ""
    log.configure("debug", stream)
    structlog.get_logger().debug("details")
    assert [line["event"] for line in lines(stream)] == ["details"]


def test_the_fields_of_a_job_are_on_each_of_its_lines_and_on_no_other(stream: io.StringIO) -> None:
    logger = structlog.get_logger()
    with log.job_fields(video_id=7, tenant_id=3, request_id="r", lease_epoch=2):
        logger.info("in the job")
        thread = threading.Thread(target=contextvars.copy_context().run, args=(logger.info, "in its thread"))
        thread.start()
        thread.join()
    logger.info("after the job")
    first, second, third = lines(stream)
    expected = {"video_id": 7, "tenant_id": 3, "request_id": "r", "lease_epoch": 2}
    assert expected.items() <= first.items()
    assert expected.items() <= second.items()
    assert set(third) == {"time", "level", "event"}


def test_threads_that_log_at_once_do_not_mix_their_lines(stream: io.StringIO) -> None:
    def talk(number: int) -> None:
        for turn in range(50):
            structlog.get_logger().info("talk", number=number, turn=turn, text="x" * 500)

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines(stream)) == 400


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("postgresql://user:pa:s@ss@host/name", "postgresql://user:…@host/name"),
        ("redis://:secret@127.0.0.1:6379/0", "redis://:…@127.0.0.1:6379/0"),
        ("connection to host=h password=secret user=u failed", "connection to host=h password=… user=u failed"),
        (
            "https://b.s3.amazonaws.com/k?X-Amz-Credential=AKIA%2F1&X-Amz-Date=2&X-Amz-Signature=abc",
            "https://b.s3.amazonaws.com/k?X-Amz-Credential=…&X-Amz-Date=2&X-Amz-Signature=…",
        ),
        (
            "https://b.s3.amazonaws.com/k?AWSAccessKeyId=A&Signature=s&Expires=1",
            "https://b.s3.amazonaws.com/k?AWSAccessKeyId=…&Signature=…&Expires=1",
        ),
        ("s3://bucket/lecture.mp4", "s3://bucket/lecture.mp4"),
    ],
)
def test_f49_secrets_inside_a_text_are_hidden(stream: io.StringIO, value: str, written: str) -> None:
    structlog.get_logger().info(value, plain=value, deep={"list": [value]}, error=ValueError(value))
    (line,) = lines(stream)
    assert line["event"] == line["plain"] == line["error"] == written
    assert line["deep"] == {"list": [written]}


@pytest.mark.parametrize("key", ["password", "aws_secret_access_key", "DSN", "Authorization"])
def test_f49_a_field_with_the_name_of_a_secret_is_hidden(stream: io.StringIO, key: str) -> None:
    structlog.get_logger().info("x", **{key: "hunter2"}, deep={key: "hunter2"})
    assert "hunter2" not in stream.getvalue()


def test_f49_a_traceback_is_one_line_and_holds_no_secret(stream: io.StringIO) -> None:
    try:
        raise RuntimeError("cannot reach redis://:hunter2@host/0")
    except RuntimeError:
        structlog.get_logger().exception("broken")
    (line,) = lines(stream)
    assert "RuntimeError: cannot reach redis://:…@host/0" in str(line["exception"])


def test_libraries_and_warnings_come_out_the_same_way(stream: io.StringIO) -> None:
    logging.getLogger("botocore").warning("slow %s", "answer")
    logging.getLogger("botocore").info("chatter")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old thing", UserWarning, stacklevel=1)
    first, second = lines(stream)
    assert (first["event"], first["logger"], first["level"]) == ("slow answer", "botocore", "warning")
    assert "old thing" in str(second["event"])


def test_without_a_stream_the_log_goes_to_stderr_and_nothing_to_stdout() -> None:
    program = "import structlog; from appliance import log; log.configure(); structlog.get_logger().warning('hello')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stderr)["event"] == "hello"
    assert done.stdout == ""
