"""How every AWS client is made: deadlines on each call, a bounded number of tries, one connection pool each."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config as ClientConfig

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
    return boto3.session.Session().client(
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
