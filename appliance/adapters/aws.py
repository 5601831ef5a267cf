"""How every AWS client is made: deadlines on each call, a bounded number of tries, one connection pool each."""

from __future__ import annotations

from functools import cache
from typing import Any

import boto3
import botocore.session
from botocore.config import Config as ClientConfig
from botocore.exceptions import ClientError, CredentialRetrievalError, NoCredentialsError, PartialCredentialsError
from botocore.loaders import Loader, create_loader

#: One try and two more, with botocore's own backoff between them; the caller decides what happens after that.
TRIES = 3


#: `refusal` of a call that could not be signed; AWS itself never heard of it.
NO_CREDENTIALS = "NoCredentials"
#: Refusals that pass by themselves.
BUSY = ("Throttl", "TooManyRequests", "RequestTimeout")


def refusal(error: BaseException | None) -> str:
    """AWS's own word for why it said no (`AccessDenied`, …); empty when it did not answer, or not now."""
    if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
        return NO_CREDENTIALS
    if not isinstance(error, ClientError):
        return ""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return "" if status >= 500 or any(word in code for word in BUSY) else code


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
