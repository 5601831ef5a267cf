"""SQS, S3 and CloudWatch as moto's server plays them, in a process of its own."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import boto3

from appliance.local.port import LOOPBACK
from appliance.local.server import Server

REGION = "ap-northeast-2"
#: moto asks for some credentials and checks none.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "embedded", "AWS_SECRET_ACCESS_KEY": "embedded"}


class Aws(Server):
    """`endpoint_url` takes the place of every AWS service's address."""

    def __init__(self, directory: Path, port: int) -> None:
        self.port = port
        self.region = REGION
        self.endpoint_url = f"http://{LOOPBACK}:{port}"
        command = [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(port)]
        super().__init__("aws", command, answers=self._answers_http, log=directory / "aws.log")

    def client(self, service: str) -> Any:
        """A plain boto3 client, for setting the stage; the appliance makes its own."""
        return boto3.client(
            service,
            region_name=self.region,
            endpoint_url=self.endpoint_url,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )

    def make_bucket(self, name: str) -> str:
        """Create the bucket; returns its name."""
        self.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": self.region})
        return name

    def open_to_readers(self, bucket: str) -> None:
        """Whoever knows a key may fetch it, as from a platform's CDN."""
        resource = f"arn:aws:s3:::{bucket}/*"
        allow = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": resource}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
        self.client("s3").put_bucket_policy(Bucket=bucket, Policy=policy)

    def make_queue(self, name: str) -> str:
        """Create the queue; returns its URL."""
        return str(self.client("sqs").create_queue(QueueName=name)["QueueUrl"])

    def _answers_http(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint_url}/moto-api/", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
