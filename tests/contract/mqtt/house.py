"""Our MQTT side with everything real but the model, beside a broker."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from edge_agent.config import Config, Mqtt
from edge_agent.ops.health import Health, State
from edge_agent.serving.jobs import Jobs
from edge_agent.serving.journal import Journal
from edge_agent.transports.mqtt.client import MqttClient
from tests.serving.scripted import ScriptedBackend, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from edge_agent.serving.router import Backend

BASE = "edge/v1/gw1"
REQUEST = f"{BASE}/request"
CANCEL = f"{BASE}/cancel"
RESPONSES = f"{BASE}/response/#"


class MqttHouse:
    """Journal, jobs and MQTT client, as the daemon puts them together."""

    def __init__(self, config: Config, directory: Path, backend: Backend) -> None:
        self.config = config
        self.state = State.READY
        self.journal = Journal(directory, config.journal)
        self.jobs = Jobs(config, self.journal, backend)
        self.client = MqttClient(config, self.jobs, self.health)

    def health(self) -> Health:
        """Return how this house is."""
        return Health(
            state=self.state,
            detail="",
            version="1.2.3",
            model=self.config.model or "",
            models=(),
            uptime_s=1.0,
            slots=self.config.engine.slots,
            running=0,
            waiting=0,
            engine_restarts=0,
            jobs_open=self.jobs.open,
            durability=self.jobs.durability,
            mqtt=self.client.state,
        )

    async def connected(self) -> None:
        """Return when the broker has our subscriptions."""
        await until(lambda: self.client.state == "connected")


def config_for(url: str, **more: Any) -> Config:
    """Return a configuration for the broker at `url`; `more` are keys of `mqtt`."""
    return Config(mqtt=Mqtt(url=url, node="gw1", **more))


@asynccontextmanager
async def mqtt_house(
    config: Config, directory: Path, backend: Backend | None = None
) -> AsyncIterator[MqttHouse]:
    """Serve over MQTT until the end of `with`, then stop as the daemon does."""
    house = MqttHouse(config, directory, backend or ScriptedBackend())
    await house.journal.open()
    await house.jobs.start()
    await house.client.start()
    try:
        await house.connected()
        yield house
    finally:
        await house.client.close()
        await house.jobs.close()
        await house.journal.close()
