"""What `bench limits` counts, and what it makes of it."""

from __future__ import annotations

import json

import pytest

from appliance.local.postgres import Postgres
from tests.benchmarks import asked, limits
from tests.benchmarks.asked import Asked
from tests.benchmarks.costs import costs

SIGNED = "AWS4-HMAC-SHA256 Credential=embedded/20261125/ap-northeast-2/{}/aws4_request, SignedHeaders=host"


def request(method: str, url: str, **headers: str) -> str:
    return json.dumps({"headers": headers, "method": method, "url": url, "body": "e30=", "body_encoded": True})


def test_a_statement_is_told_by_its_connection_and_its_name() -> None:
    log = (
        "video-appliance encoder 0|LOG:  statement: /* video-appliance claim */ WITH\n\tdue AS (SELECT id\n"
        "video-appliance heartbeat 0|LOG:  statement: /* video-appliance renew */ UPDATE\n"
        "psql|LOG:  statement: SELECT 1\n"
    )
    assert asked.STATEMENT.findall(log) == [("encoder", "claim"), ("heartbeat", "renew")]


def test_a_call_is_told_by_its_signature_also_when_two_were_written_on_one_line() -> None:
    s3, sqs = SIGNED.format("s3"), SIGNED.format("sqs")
    recorded = "".join(
        (
            request("PUT", "http://h/b/k", Authorization=s3),
            request("POST", "http://h/", authorization=sqs, **{"X-Amz-Target": "AmazonSQS.ReceiveMessage"}) + "\n\n",
            request("GET", "http://h/b?list-type=2&prefix=p", Authorization=s3) + "\n",
            request("GET", "http://h/b/k", Authorization=s3) + "\n",
            request("GET", "http://h/moto-api/") + "\n",
        )
    )
    calls = [asked._call(one) for one in asked._requests(recorded)]
    assert calls == [("s3", "PUT"), ("sqs", "ReceiveMessage"), ("s3", "PUT"), ("s3", "GET"), None]


def test_a_thousand_encoders_are_the_sum_of_what_each_asks() -> None:
    statements = {("encoder", "claim_next"): 30, ("reconcile", "backlog"): 60}
    quiet = Asked(60.0, statements, {("sqs", "ReceiveMessage"): 24, ("sqs", "GetQueueAttributes"): 4}, {})
    fixed = {"statements": 10.0, "sqs": 3.0, "PUT": 20.0, "GET": 20.0, "bytes": 5000.0}
    chunk = {"statements": 2.0, "sqs": 0.0, "PUT": 40.0, "GET": 30.0, "bytes": 1000.0}
    one = limits.Video(fixed, chunk, 2.0, {"encoder": 1, "heartbeat": 1, "reconcile": 1})
    cost = dict.fromkeys(("renew", "renew_chunk", "claim_next, complete", "backlog", "processing_page", "MiB"), 1.0)
    found = limits.per_thousand(quiet, one, cost, slots=8)
    assert found["connections"]["held"] == 2000 + 125
    # a renewal of the video and of its chunk each 20 s; 110 statements in 25 minutes; a host's tick
    assert found["statements a second"]["busy"] == pytest.approx(100 + 110_000 / 1500 + 125)
    assert found["SQS calls a second"]["idle"] == pytest.approx(24 / 60 / 8 * 1000 + 4 / 60 * 125)
    assert found["S3 requests a second"]["USD a thousand lectures"] == pytest.approx(2020 * 5e-3 + 1520 * 0.4e-3)
    assert found["rows"]["kB a lecture"] == 55


def test_each_statement_of_a_large_fleet_is_measured_on_its_tables(postgres: Postgres) -> None:
    found = costs(postgres, encoders=5, seconds=0.03)
    assert {"renew", "renew_chunk", "backlog", "claim_assist"} < found.keys()
    assert found["MiB"] > 0
    assert all(milliseconds >= 0 for milliseconds in found.values())
