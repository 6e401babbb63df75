"""The image, built with buildah and run with runc as compose.yaml asks, beside the real broker.

Run as root, with debootstrap, buildah, runc and mosquitto installed:
    pytest -m long tests/packaging/test_container_run.py
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.broker import LocalBroker
from tests.packaging.image import Container, build_image, unpacked
from tests.packaging.local_api import LocalApi, free_port, until
from tests.requester import Requester

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

CONTAINER = Path(__file__).parents[2] / "container"
OURS = yaml.safe_load((CONTAINER / "compose.yaml").read_text())["services"]["edge-agent"]
STOP_LIMIT_S = float(OURS["stop_grace_period"].removesuffix("s"))
API_KEY = "a-key-that-no-log-may-show"


@pytest.fixture(scope="module")
def tree() -> Iterator[str]:
    """Return where the freshly built image is unpacked."""
    build_image()
    with unpacked() as tree:
        yield tree


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    with LocalBroker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture(scope="module")
def api() -> LocalApi:
    return LocalApi(free_port(), API_KEY)


@pytest.fixture(scope="module")
def container(
    tree: str, api: LocalApi, broker: LocalBroker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Container]:
    """Start the image as composed; only the port and the broker's address are this machine's."""
    own = {
        "EDGE_AGENT_HTTP__LISTEN": f'["0.0.0.0:{api.port}"]',
        "EDGE_AGENT_MQTT__URL": broker.url,
    }
    container = Container(tmp_path_factory.mktemp("bundle"), tree, {**OURS["environment"], **own})
    container.give_secret("api-keys", API_KEY)
    container.start()
    try:
        yield container
    finally:
        container.destroy()


def test_the_first_start_fetches_the_model_and_becomes_healthy(
    container: Container, api: LocalApi
) -> None:
    address = f"http://127.0.0.1:{api.port}/health"

    until(lambda: api.state() == "preparing", "HTTP answers while the model is fetched")
    assert container.health_check(address) == 1
    until(api.serves, "the model is fetched, imported and answers")
    assert container.health_check(address) == 0


def test_it_answers_over_http_and_over_mqtt(
    container: Container, api: LocalApi, broker: LocalBroker
) -> None:
    until(api.serves, "the model answers")
    node = OURS["environment"]["EDGE_AGENT_MQTT__NODE"]
    prompt = "What is the capital of France?"

    completion = api.ask(prompt, max_tokens=16)
    with Requester(broker.url, f"edge/v1/{node}/response/#") as requester:
        body = {"prompt": prompt, "id": "one", "max_tokens": 16, "temperature": 0}
        requester.send(f"edge/v1/{node}/request", body)
        (result,) = requester.hear(type="result", id="one")

    assert "Paris" in completion["choices"][0]["message"]["content"]
    assert "Paris" in result.body["text"]


def test_it_runs_as_nobody_in_particular_and_may_do_nothing(
    container: Container, api: LocalApi
) -> None:
    until(api.serves, "the model answers")

    status = container.run("cat", "/proc/1/status").stdout

    lines = dict(line.split(":\t", 1) for line in status.splitlines())
    assert set(lines["Uid"].split()) == {"10001"}
    assert set(lines["Gid"].split()) == {"10001"}
    assert int(lines["CapBnd"], 16) == 0
    assert lines["NoNewPrivs"] == "1"


def test_nothing_but_its_volume_can_be_written(container: Container, api: LocalApi) -> None:
    until(api.serves, "the model answers")

    for place in ("/", "/opt/edge-agent", "/etc", "/run/secrets"):
        assert "Read-only file system" in container.run("touch", f"{place}/x").stderr
    assert (container.state / "journal.db").exists()


def test_stopping_ends_with_0_and_the_log_holds_no_secret(
    container: Container, api: LocalApi
) -> None:
    until(api.serves, "the model answers")
    environ = container.run("cat", "/proc/1/environ", "/proc/1/cmdline").stdout

    assert container.stop(STOP_LIMIT_S) == 0
    assert API_KEY not in environ
    assert API_KEY not in container.log()
    assert "telemetry" not in container.log()


def test_without_a_key_it_refuses_to_listen_to_the_network(tree: str, tmp_path: Path) -> None:
    keyless = Container(tmp_path, tree, {"EDGE_AGENT_HTTP__LISTEN": f'["0.0.0.0:{free_port()}"]'})
    try:
        keyless.start()
        assert keyless.wait(STOP_LIMIT_S) == 2
    finally:
        keyless.destroy()
    assert "http.api_key_file" in keyless.log()
