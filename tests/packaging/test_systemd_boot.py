"""The unit in a booted systemd: Debian 12, our wheel, the real model, the whole hardening.

Run as root, with debootstrap and systemd-container installed:
    pytest -m long tests/packaging/test_systemd_boot.py
"""

from __future__ import annotations

import shlex
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.packaging.booted import Machine, booted
from tests.packaging.debian_root import PYTHON, SYSTEMD, build_wheel, debian_root, install
from tests.packaging.local_api import LocalApi, free_port, until
from tests.packaging.unit_file import STRICT_NETWORK, UNIT, settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

API_KEY = "a-key-that-no-log-may-show"
KEY_FILE = "/run/credentials/edge-agent.service/edge-agent.api-keys"
STATE = "var/lib/private/edge-agent"
# systemd's range for users that exist only while a service runs.
DYNAMIC_UIDS = range(61184, 65520)
STALL_LIMIT_S = 5
FILTER = "SystemCallFilter"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Debian with this project and its unit."""
    root = debian_root("debian-systemd", (*SYSTEMD, *PYTHON))
    install(root, build_wheel(tmp_path_factory.mktemp("wheel")))
    shutil.copy(UNIT, root / "etc/systemd/system")
    shutil.rmtree(root / "var/log/journal", ignore_errors=True)
    return root


@pytest.fixture(scope="module")
def machine(root: Path) -> Iterator[Machine]:
    port = free_port()
    configuration = root / "etc/edge-agent/edge-agent.yaml"
    configuration.parent.mkdir(exist_ok=True)
    configuration.write_text(
        f"http: {{listen: ['127.0.0.1:{port}'], api_key_file: {KEY_FILE}}}\n"
        f"engine: {{stall_limit_s: {STALL_LIMIT_S}}}\n"
    )
    secret = root / "etc/credstore/edge-agent.api-keys"
    secret.parent.mkdir(mode=0o700, exist_ok=True)
    secret.write_text(API_KEY)
    secret.chmod(0o600)
    with booted(root, LocalApi(port, API_KEY)) as machine:
        yield machine


@pytest.fixture
def service(machine: Machine) -> Machine:
    """Return the machine with the service running and the model loaded, by whatever start."""
    machine.systemctl("start")
    until(machine.api.serves, "the model answers")
    return machine


def test_the_first_start_is_ready_at_once_and_fetches_the_model_behind_it(
    machine: Machine, root: Path
) -> None:
    machine.systemctl("stop")
    shutil.rmtree(root / STATE, ignore_errors=True)

    machine.systemctl("start")

    assert machine.show("ActiveState") == "active"
    assert machine.api.state() == "preparing"
    until(machine.api.serves, "the model is fetched, imported and answers")
    completion = machine.api.ask("What is the capital of France?", max_tokens=16)
    assert "Paris" in completion["choices"][0]["message"]["content"]


def test_a_model_prepared_by_hand_is_the_services_own(machine: Machine, root: Path) -> None:
    machine.systemctl("stop")
    shutil.rmtree(root / STATE, ignore_errors=True)

    # As the guide says for a service that may not reach the network itself.
    same = ["DynamicUser=yes", "User=edge-agent", "StateDirectory=edge-agent", "UMask=0077"]
    properties = [f"--property={line}" for line in same]
    pull = ["/opt/edge-agent/bin/edge-agent", "model", "pull", "smollm2-135m-instruct"]
    machine.run("systemd-run", "--pipe", "--wait", *properties, *pull)

    machine.systemctl("start")
    assert machine.api.state() != "preparing"
    until(machine.api.serves, "the model answers")


def test_the_strict_network_keeps_every_packet_inside_the_site(machine: Machine) -> None:
    # An address for documentation: nobody has it, so the datagram, if it leaves, ends nowhere.
    probe = "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('192.0.2.1', 9))"
    properties = [
        f"--property={key}={value}"
        for key, (values,) in settings(STRICT_NETWORK).items()
        for value in values.split()
    ]

    for rules, said in (([], ""), (properties, "PermissionError")):
        command = ["systemd-run", "--pipe", "--wait", "--quiet", *rules, "python3", "-c", probe]
        outcome = machine.run("sh", "-c", f"{shlex.join(command)} 2>&1", check=False)
        assert said in outcome
        assert bool(said) == bool(outcome)


def test_cores_may_be_chosen_behind_the_filter_and_priorities_may_not(machine: Machine) -> None:
    filters = [f"--property=SystemCallFilter={value}" for value in settings(UNIT)[FILTER]]
    properties = [*filters, "--property=SystemCallErrorNumber=EPERM", "--property=DynamicUser=yes"]

    for call, said in (
        ("os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})", ""),
        ("os.setpriority(os.PRIO_PROCESS, 0, 1)", "PermissionError"),
    ):
        command = ["systemd-run", "--pipe", "--wait", "--quiet", *properties]
        command += ["python3", "-c", f"import os; {call}"]
        outcome = machine.run("sh", "-c", f"{shlex.join(command)} 2>&1", check=False)
        assert said in outcome
        assert bool(said) == bool(outcome)


def test_the_strict_network_leaves_loopback_open(service: Machine, root: Path) -> None:
    drop_in = root / "etc/systemd/system/edge-agent.service.d" / STRICT_NETWORK.name
    drop_in.parent.mkdir(exist_ok=True)
    shutil.copy(STRICT_NETWORK, drop_in)
    try:
        service.run("systemctl", "daemon-reload")
        service.systemctl("restart")
        assert "10.0.0.0/8" in service.show("IPAddressAllow")
        until(service.api.serves, "the model answers")
    finally:
        drop_in.unlink()
        service.run("systemctl", "daemon-reload")


def test_daemon_and_engine_run_without_any_privilege(service: Machine) -> None:
    for pid in (service.daemon_pid, service.engine_pid()):
        process = service.process(pid)
        assert int(process["Uid"].split()[0]) in DYNAMIC_UIDS
        assert int(process["CapBnd"], 16) == 0
        assert process["NoNewPrivs"] == "1"
        assert process["Seccomp"] == "2"


def test_the_kernel_is_told_to_take_the_engine_before_the_daemon(service: Machine) -> None:
    daemon, engine = (
        int(service.run("cat", f"/proc/{pid}/oom_score_adj"))
        for pid in (service.daemon_pid, service.engine_pid())
    )

    assert 0 < daemon < engine


def test_state_is_the_services_alone(service: Machine, root: Path) -> None:
    uid = int(service.process(service.daemon_pid)["Uid"].split()[0])
    state = root / STATE

    for path in (state, *state.rglob("*")):
        assert path.stat().st_uid == uid
        assert path.stat().st_mode & 0o077 == 0
    assert (state / "journal.db").exists()


def test_a_killed_engine_is_replaced_under_the_same_daemon(service: Machine) -> None:
    daemon, engine = service.daemon_pid, service.engine_pid()

    service.signal("KILL", engine)

    until(lambda: service.engine_pid() not in {0, engine}, "another engine is started")
    until(service.api.serves, "it answers")
    assert service.daemon_pid == daemon


def test_a_hung_engine_is_replaced_under_the_same_daemon(service: Machine) -> None:
    daemon, engine = service.daemon_pid, service.engine_pid()

    service.signal("STOP", engine)

    until(lambda: service.api.state() != "ready", "the hang is noticed")
    until(lambda: service.engine_pid() not in {0, engine}, "another engine is started")
    until(service.api.serves, "it answers")
    assert service.daemon_pid == daemon


def test_a_killed_daemon_is_started_again(service: Machine) -> None:
    daemon = service.daemon_pid

    service.signal("KILL", daemon)

    until(lambda: service.daemon_pid not in {0, daemon}, "systemd has started another one")
    until(service.api.serves, "it answers")


def test_a_hung_daemon_is_killed_by_the_watchdog_and_started_again(service: Machine) -> None:
    daemon = service.daemon_pid

    service.signal("STOP", daemon)

    until(lambda: service.daemon_pid not in {0, daemon}, "systemd has started another one")
    until(service.api.serves, "it answers")
    assert "Failed with result 'watchdog'" in service.log()


def test_stopping_lets_a_running_answer_finish_and_ends_with_0(service: Machine) -> None:
    prompt = "Tell me a long story."
    undisturbed = service.api.ask(prompt, max_tokens=64)

    with ThreadPoolExecutor() as pool:
        answer = pool.submit(service.api.ask, prompt, max_tokens=64)
        until(lambda: service.api.health().get("running") == 1, "the answer has begun")
        service.systemctl("stop")

    assert answer.result()["choices"] == undisturbed["choices"]
    assert service.show("Result") == "success"
    assert service.show("ExecMainStatus") == "0"
    assert service.show("ActiveState") == "inactive"


def test_the_log_shows_no_secret_no_prompt_and_no_refused_call(service: Machine) -> None:
    service.api.ask("What is the capital of Portugal?", max_tokens=4)

    log = service.log()

    assert "request done" in log
    for unwanted in (API_KEY, "Portugal", "Operation not permitted", "telemetry"):
        assert unwanted not in log


def test_the_environment_shows_no_secret(service: Machine) -> None:
    for pid in (service.daemon_pid, service.engine_pid()):
        shown = service.run("cat", f"/proc/{pid}/environ", f"/proc/{pid}/cmdline")
        assert API_KEY not in shown
