"""How many encoders this host carries, from the configuration."""

from __future__ import annotations

from appliance.config import Config
from appliance.supervisor import capacity


def encoders(config: Config) -> tuple[int, str]:
    """How many encoders, and why."""
    wanted = config.pool.encoders
    if isinstance(wanted, int):
        return wanted, f"{wanted} encoders: pool.encoders says so"
    return capacity.encoders(
        capacity.look(),
        cores_per_encoder=config.pool.cores_per_encoder,
        memory_per_encoder_bytes=config.pool.memory_per_encoder_bytes,
    )
