"""The outside machines as a verb needs them: each is made when it is first used, and nothing is connected before."""

from __future__ import annotations

from functools import cached_property

from appliance.adapters.postgres.connection import Database
from appliance.adapters.postgres.leases import Leases
from appliance.adapters.postgres.reports import Reports
from appliance.adapters.postgres.sweeps import Sweeps
from appliance.adapters.redis import Telemetry
from appliance.adapters.s3 import S3
from appliance.adapters.sqs import Doorbell
from appliance.config import Config
from appliance.wiring import adapters


class Services:
    """One set per command. What does not answer raises Unavailable when it is asked."""

    def __init__(self, config: Config) -> None:
        self.config = config

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
        return adapters.doorbell(self.config)

    @cached_property
    def telemetry(self) -> Telemetry:
        return adapters.telemetry(self.config)

    @cached_property
    def sources(self) -> S3:
        """The bucket of uploads."""
        return adapters.storages(self.config)[1]

    @cached_property
    def streams(self) -> S3:
        """The bucket of finished streams."""
        return adapters.storage(self.config)
