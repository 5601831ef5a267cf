"""The outside machines as a verb needs them: each is made when it is first used, and nothing is connected before."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

from appliance.adapters.postgres.connection import Database
from appliance.adapters.postgres.leases import Leases
from appliance.adapters.postgres.reports import Reports
from appliance.adapters.postgres.sweeps import Sweeps
from appliance.adapters.redis import Telemetry
from appliance.adapters.s3 import S3
from appliance.adapters.sqs import Doorbell
from appliance.cli import terminal
from appliance.config import Config
from appliance.domain.errors import Unavailable
from appliance.domain.message import Message
from appliance.wiring import adapters

#: A person waits: AWS that is silent for longer is down, however patient the service itself may be.
PATIENCE_SECONDS = 4.0
TRIES = 2


class Services:
    """One set per command. What does not answer raises Unavailable when it is asked."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._bell_answers = True

    def ring(self, message: Message) -> bool:
        """Whether SQS took it; what it did not take waits in its row. After one refusal SQS is not asked again."""
        try:
            if self._bell_answers:
                self.doorbell.ring(message)
        except Unavailable as error:
            self._bell_answers = False
            terminal.complain(error)
        return self._bell_answers

    def aws(self, service: str) -> Any:
        """A client for short questions."""
        return adapters.aws_client(self._impatient, service, tries=TRIES)

    @cached_property
    def database(self) -> Database:
        return adapters.database(self.config, "command line")

    @cached_property
    def leases(self) -> Leases:
        return adapters.leases(self.config, self.database)

    @cached_property
    def sweeps(self) -> Sweeps:
        return Sweeps(self.database, max_losses=self.config.lease.max_losses)

    @cached_property
    def reports(self) -> Reports:
        return Reports(self.database)

    @cached_property
    def doorbell(self) -> Doorbell:
        return adapters.doorbell(self._impatient, polls=False)

    @cached_property
    def telemetry(self) -> Telemetry:
        return adapters.telemetry(self.config)

    @cached_property
    def sources(self) -> S3:
        """The bucket of uploads."""
        return self._storages[1]

    @cached_property
    def uploads(self) -> S3:
        """The same with the service's patience: the parts of a long recording are tried again."""
        return adapters.storages(self.config)[1]

    @cached_property
    def streams(self) -> S3:
        """The bucket of finished streams."""
        return self._storages[0]

    @cached_property
    def _storages(self) -> tuple[S3, S3]:
        return adapters.storages(self._impatient, tries=TRIES)

    @property
    def _impatient(self) -> Config:
        """What the file says, and never more than a person waits."""
        aws = self.config.aws
        bounds = {
            name: min(getattr(aws, name), PATIENCE_SECONDS)
            for name in ("connect_timeout_seconds", "read_timeout_seconds")
        }
        return replace(self.config, aws=replace(aws, **bounds))
