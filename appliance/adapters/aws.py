"""How every AWS client is made: deadlines on each call, a bounded number of tries, one connection pool each."""

from __future__ import annotations

from functools import cache
from typing import Any

import boto3
import botocore.session
from botocore.config import Config as ClientConfig
from botocore.loaders import Loader, create_loader

#: One try and two more, with botocore's own backoff between them; the caller decides what happens after that.
TRIES = 3


def client(
    service: str,
    *,
    region: str = "",
    endpoint_url: str = "",
    connect_timeout_seconds: float = 5.0,
    read_timeout_seconds: float = 30.0,
    connections: int = 10,
    tries: int = TRIES,
) -> Any:
    """A boto3 client (safe to share between threads). Empty `region`/`endpoint_url`: as the environment says.

    boto3's default session is module state shared by all threads and not safe to make clients from; hence our own.
    """
    session = botocore.session.get_session()
    session.register_component("data_loader", _models())
    return boto3.session.Session(botocore_session=session).client(
        service,
        region_name=region or None,
        endpoint_url=endpoint_url or None,
        config=ClientConfig(
            connect_timeout=connect_timeout_seconds,
            read_timeout=read_timeout_seconds,
            retries={"mode": "standard", "total_max_attempts": tries},
            max_pool_connections=connections,
        ),
    )


def read_models(*services: str) -> None:
    """Before a fork: what the children share then, 12 MiB for S3. Connects nowhere."""
    for service in services:
        client(service, region="us-east-1").close()


@cache
def _models() -> Loader:
    """The descriptions of the services: never changed, read once in a process. Losing a race reads one twice."""
    return create_loader()
