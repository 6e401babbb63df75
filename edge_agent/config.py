"""Every knob once: its unit, default, bounds and one line of help, read from YAML and environment.

Order, later wins: defaults here, the YAML file, `EDGE_AGENT_*` variables (`EDGE_AGENT_HTTP__LISTEN`
is `http.listen`; the value is YAML). Unknown keys are errors that name the nearest known one.
Secrets are never values here: the configuration names the files that hold them.
"""

from __future__ import annotations

import difflib
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints
from urllib.parse import urlsplit

import msgspec
import yaml
from msgspec import Meta, Struct

from edge_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEFAULT_FILE = Path("/etc/edge-agent/edge-agent.yaml")
ENV_PREFIX = "EDGE_AGENT_"
# Variables with the prefix that are not configuration keys.
ENV_RESERVED = {"EDGE_AGENT_HOME", "EDGE_AGENT_CONFIG"}

# A number and a unit; powers of ten and of two as their names say.
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([KMGT]i?B|B)?")
_UNITS: dict[str, int] = {"B": 1} | {
    f"{letter}{infix}B": base**power
    for infix, base in (("", 1000), ("i", 1024))
    for power, letter in enumerate("KMGT", start=1)
}

Seconds = Annotated[float, Meta(gt=0, le=7 * 86400)]
Port = Annotated[int, Meta(ge=1, le=65535)]


class Http(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The HTTP surface."""

    listen: Annotated[
        tuple[str, ...], Meta(max_length=8, description="addresses as host:port; empty: no HTTP")
    ] = ("127.0.0.1:8080",)
    api_key_file: Annotated[
        str | None,
        Meta(description="file with one key per line; needed to listen beyond loopback"),
    ] = None
    # Clients that may ask questions need not be able to take the model away from the others.
    admin_key_file: Annotated[
        str | None,
        Meta(description="file with one key per line; /admin needs one of them, also on loopback"),
    ] = None
    allowed_hosts: Annotated[
        tuple[str, ...],
        Meta(description="names accepted in Host and Origin beside loopback and own addresses"),
    ] = ()
    # A megabyte of prompt is about 250,000 tokens, twice the longest context there is.
    max_body_bytes: Annotated[
        int, Meta(ge=1024, le=64 << 20, description="largest request body, bytes")
    ] = 1 << 20
    # Idle proxies cut at 30-60 s; a comment line every 10 s keeps a slow prefill alive.
    heartbeat_s: Annotated[Seconds, Meta(description="SSE comment when nothing was sent, s")] = 10.0


class Mqtt(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The MQTT surface; without `url` there is none."""

    url: Annotated[
        str | None,
        Meta(description="mqtt://host:1883 or mqtts://host:8883; null: no MQTT"),
    ] = None
    node: Annotated[
        Annotated[str, Meta(min_length=1, max_length=64)] | None,
        Meta(description="this gateway's name in topics; null: host name"),
    ] = None
    base_topic: Annotated[
        str, Meta(min_length=1, max_length=200, description="root of all our topics")
    ] = "edge/v1/{node}"
    reply_topics: Annotated[
        tuple[str, ...], Meta(max_length=32, description="filters a reply topic must match")
    ] = ("edge/v1/{node}/response/#",)
    username: Annotated[str | None, Meta(description="broker user")] = None
    password_file: Annotated[str | None, Meta(description="file with the broker password")] = None
    ca_file: Annotated[
        str | None, Meta(description="CA bundle for mqtts (PEM); null: system's")
    ] = None
    cert_file: Annotated[str | None, Meta(description="client certificate (PEM)")] = None
    key_file: Annotated[str | None, Meta(description="key of the client certificate (PEM)")] = None
    client_id: Annotated[
        Annotated[str, Meta(min_length=1, max_length=128)] | None,
        Meta(description="fixed client id; null: edge-agent-{node}"),
    ] = None
    # Long enough not to lose queued requests over a night's outage.
    session_expiry_s: Annotated[
        int, Meta(ge=0, le=0xFFFFFFFE, description="how long the broker keeps our session, s")
    ] = 86400
    keepalive_s: Annotated[int, Meta(ge=5, le=3600, description="MQTT keep-alive, s")] = 30
    # Fast restarts must not flap: the broker waits this long before it publishes the will.
    will_delay_s: Annotated[int, Meta(ge=0, le=600, description="delay of the last will, s")] = 5
    # In flight and not yet on disk; each is on disk within milliseconds.
    receive_maximum: Annotated[
        int, Meta(ge=1, le=65535, description="unacknowledged requests the broker may send")
    ] = 8
    max_payload_bytes: Annotated[
        int, Meta(ge=1024, le=64 << 20, description="largest request payload, bytes")
    ] = 1 << 20
    # Brokers drop what is larger (AWS IoT 128 kB, mosquitto 2.1 2 MB); v5 brokers tell us theirs.
    max_packet_bytes: Annotated[
        int, Meta(ge=1024, le=256 << 20, description="largest packet we publish, bytes")
    ] = 2_000_000
    policy: Annotated[
        Literal["local", "site", "any"] | None,
        Meta(
            description="how far prompts that come over MQTT and do not say may travel; "
            "null: routing.policy"
        ),
    ] = None
    # Ten messages a second per stream at most: a small broker serves many clients.
    delta_interval_s: Annotated[
        float, Meta(ge=0.01, le=10, description="deltas are joined over this time, s")
    ] = 0.1


class Pinned(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A system prompt that many prompts begin with: its KV cache is kept on disk."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", description="for the log")]
    system: Annotated[
        Annotated[str, Meta(min_length=1, max_length=65536)] | None,
        Meta(description="the system prompt itself"),
    ] = None
    file: Annotated[str | None, Meta(description="or a file that holds it (UTF-8)")] = None
    variant: Annotated[
        Annotated[str, Meta(max_length=128)] | None,
        Meta(description="or a variant of the model, whose system prompt it is"),
    ] = None

    def __post_init__(self) -> None:
        """Check what no single constraint can.

        Raises:
            ValueError: not exactly one of the three says what the prompt is.
        """
        if [self.system, self.file, self.variant].count(None) != 2:  # noqa: PLR2004  # of three
            msg = f"engine.pinned {self.name!r}: say one of system, file and variant"
            raise ValueError(msg)


class Engine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model's process."""

    slots: Annotated[int, Meta(ge=1, le=64, description="requests that run at once")] = 4
    context: Annotated[
        int,
        Meta(ge=128, le=131072, description="tokens of prompt and answer together, per slot"),
    ] = 4096
    threads: Annotated[
        Literal["auto"] | Annotated[int, Meta(ge=1, le=256)],
        Meta(description="compute threads; auto: the cores we may use, of unequal ones the fast"),
    ] = "auto"
    # Costs disk, as much as the weights again or a bit more, and saves as much memory.
    prepare: Annotated[
        bool, Meta(description="pack weights for this machine once, before the first load")
    ] = True
    # One chunk is the longest a running answer waits for a neighbour's prompt.
    chunk_tokens: Annotated[
        int, Meta(ge=16, le=1024, description="prompt tokens computed in one step")
    ] = 128
    # A new prompt then takes twice as long beside an answer, and nobody who reads one sees it stop.
    kept_pace: Annotated[
        float,
        Meta(
            ge=0,
            le=0.9,
            description="part of their pace that running answers keep while prompts are read; "
            "0: prompts are read as fast as they can be",
        ),
    ] = 0.5
    kv_dtype: Annotated[
        Literal["auto", "fp32", "fp16", "int8"],
        Meta(
            description="the KV cache: fp16 takes half the memory of fp32, int8 a quarter; auto: "
            "fp32 where all slots may fill up, else the smallest"
        ),
    ] = "auto"
    # Long system prompts, lists of tools and conversations are read once instead of every time.
    prefix_bytes: Annotated[
        str | Annotated[int, Meta(ge=0)],
        Meta(
            description="KV cache kept of ended requests, for prompts that begin alike: auto (as "
            "much as one slot can fill), bytes, or text like 512MiB; 0: prompts share nothing"
        ),
    ] = "auto"
    # Each is compared with every prompt; a gateway has a handful of programs of its own.
    pinned: Annotated[
        tuple[Pinned, ...],
        Meta(
            max_length=16,
            description="system prompts that are computed once and kept on disk (name, and one of "
            "system, file, variant)",
        ),
    ] = ()
    # Answers that repeat their prompt come faster; where nothing repeats, it costs nothing. More
    # than eight tokens in a step cost as much again as the last guesses bring.
    draft_tokens: Annotated[
        int,
        Meta(
            ge=0,
            le=15,
            description="guessed tokens of an answer, found in prompt and answer, that one step "
            "verifies at most, where it raises speed; answers are the same; 0: none",
        ),
    ] = 7
    # More than slots x 8 waiting would not be answered within a usual client's patience.
    queue_requests: Annotated[
        int, Meta(ge=1, le=10_000, description="requests that may wait for a slot")
    ] = 32
    # Several answers of a few hundred tokens on a slow gateway: far below that, the order in which
    # requests came would matter more than their priority.
    ageing_s: Annotated[
        Seconds, Meta(description="who waits so long for a slot counts as one priority higher, s")
    ] = 60.0
    # Hundreds of ordinary prompts, or a few of the largest.
    queue_bytes: Annotated[
        int, Meta(ge=1 << 20, le=1 << 30, description="bytes of prompts inside, all together")
    ] = 16 << 20
    max_crashes: Annotated[
        int, Meta(ge=1, le=100, description="crashes under one request before it is poison")
    ] = 3
    # A prefill chunk of the largest model on the slowest board takes seconds, never minutes.
    stall_limit_s: Annotated[
        Seconds, Meta(description="no heartbeat for so long: the engine is killed, s")
    ] = 60.0
    load_wait_s: Annotated[
        Seconds, Meta(description="how long a request waits for a loading model, s")
    ] = 20.0
    restart_wait_s: Annotated[
        Seconds, Meta(description="first wait before the engine is restarted, s; doubles")
    ] = 0.5
    restart_wait_limit_s: Annotated[Seconds, Meta(description="longest such wait, s")] = 60.0

    def __post_init__(self) -> None:
        """Check what no single constraint can.

        Raises:
            ValueError: a size cannot be read; it names the key.
        """
        _ = self.most_prefix_bytes
        names = [one.name for one in self.pinned]
        if twice := next((name for name in names if names.count(name) > 1), None):
            msg = f"engine.pinned: two are called {twice!r}"
            raise ValueError(msg)

    @property
    def most_prefix_bytes(self) -> int | None:
        """What kept prefixes may take, in bytes; None: as much as one slot."""
        if self.prefix_bytes == "auto":
            return None
        return _bytes("engine.prefix_bytes", self.prefix_bytes)


class Memory(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the daemon and its model may take, and for how long."""

    budget: Annotated[
        str | Annotated[int, Meta(ge=1 << 20)],
        Meta(
            description="most memory of our processes, file pages apart: auto (what is there), "
            "bytes, or text like 3GB"
        ),
    ] = "auto"
    # What other programs of a gateway grow by at their busiest.
    reserve: Annotated[
        str | Annotated[int, Meta(ge=0)],
        Meta(
            description="memory left to other programs whatever comes: bytes, or text like 256MiB"
        ),
    ] = "256MiB"
    # A dedicated box has nothing better to do with its memory than to answer at once.
    keep_alive: Annotated[
        Literal["forever"] | Annotated[float, Meta(ge=0, le=7 * 86400)],
        Meta(description="how long an idle model stays loaded: forever, or seconds"),
    ] = "forever"

    def __post_init__(self) -> None:
        """Check what no single constraint can.

        Raises:
            ValueError: a size cannot be read; it names the key.
        """
        _ = self.budget_bytes, self.reserve_bytes

    @property
    def budget_bytes(self) -> int | None:
        """The budget in bytes; None: what is there."""
        return None if self.budget == "auto" else _bytes("memory.budget", self.budget)

    @property
    def reserve_bytes(self) -> int:
        """The reserve in bytes."""
        return _bytes("memory.reserve", self.reserve)


def _bytes(key: str, size: int | str) -> int:
    """Return `size` in bytes.

    Raises:
        ValueError: it is neither a number nor a number with a unit that is known.
    """
    if isinstance(size, int):
        return size
    found = _SIZE.fullmatch(size)
    if found is None:
        msg = f"{key}: expected bytes or a size like 256MiB or 3GB, found {size!r}"
        raise ValueError(msg)
    return round(float(found[1]) * _UNITS[found[2] or "B"])


class Journal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The durable queue."""

    max_jobs: Annotated[int, Meta(ge=1, le=1_000_000, description="unfinished jobs kept")] = 1000
    max_bytes: Annotated[
        int, Meta(ge=1 << 20, description="bytes of payloads and results kept")
    ] = 256 << 20
    retention_s: Annotated[
        Seconds, Meta(description="how long results answer a repeated id, s")
    ] = 86400.0
    default_deadline_s: Annotated[
        Seconds, Meta(description="deadline of a request that names none, s")
    ] = 3600.0
    # Below this a full disk would stop SQLite in the middle of a result.
    min_free_bytes: Annotated[
        int, Meta(ge=0, description="free disk below which nothing is accepted")
    ] = 32 << 20


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of one request, on every wire."""

    max_messages: Annotated[int, Meta(ge=1, le=10_000, description="messages")] = 256
    max_json_depth: Annotated[int, Meta(ge=4, le=256, description="nesting of JSON")] = 32
    max_stop_strings: Annotated[int, Meta(ge=1, le=64, description="stop strings")] = 16
    max_stop_chars: Annotated[int, Meta(ge=1, le=4096, description="length of one")] = 256
    max_deadline_s: Annotated[Seconds, Meta(description="longest deadline, s")] = 86400.0
    # The longest context there is; an answer that long has no room for a prompt.
    max_answer_tokens: Annotated[
        int, Meta(ge=1, le=1 << 20, description="largest max_tokens a request may name")
    ] = 131072
    max_model_chars: Annotated[
        int, Meta(ge=8, le=1024, description="length of a model name in a request")
    ] = 128
    max_tools: Annotated[int, Meta(ge=1, le=1024, description="tools of a request")] = 128
    # Definitions are prompt: this many bytes are about 60,000 tokens.
    max_tools_bytes: Annotated[
        int, Meta(ge=1024, le=64 << 20, description="JSON of all tools of a request, bytes")
    ] = 256 << 10
    max_id_chars: Annotated[int, Meta(ge=8, le=256, description="length of a request id")] = 128


class Routing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who answers: the model here, or a peer."""

    fallback: Annotated[
        Literal["never", "auto", "prefer-peer"],
        Meta(description="peers answer: never, when the model here cannot (auto), or first"),
    ] = "auto"
    policy: Annotated[
        Literal["local", "site", "any"],
        Meta(description="how far prompts may travel that do not say: local, site, any"),
    ] = "site"
    max_local_wait_s: Annotated[
        Seconds | None,
        Meta(description="a longer wait for the model here goes to a free peer, s; null: never"),
    ] = None
    min_prompt_tokens_for_peer: Annotated[
        Annotated[int, Meta(ge=1, le=1 << 20)] | None,
        Meta(description="prompts of at least so many tokens go to a free peer; null: none"),
    ] = None


class Peer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another server that answers when this one cannot."""

    # It stands in headers, topics and metrics.
    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$", description="how we call it")]
    kind: Annotated[
        Literal["ollama", "openai"],
        Meta(description="openai: vLLM, llama.cpp's server, another edge-agent, …"),
    ]
    url: Annotated[
        str, Meta(max_length=500, description="http(s)://host:port, without /v1 or /api")
    ]
    model: Annotated[
        str, Meta(min_length=1, max_length=256, description="what the model is called there")
    ]
    # Nothing leaves the site by accident: who configures a cloud peer says so.
    zone: Annotated[
        Literal["site", "cloud"], Meta(description="where it stands; see routing.policy")
    ]
    priority: Annotated[int, Meta(ge=-1000, le=1000, description="higher is asked first")] = 0
    api_key_file: Annotated[
        str | None, Meta(description="file with the key to send, on its first line")
    ] = None
    # A machine on the same network answers within milliseconds, or is not there.
    connect_timeout_s: Annotated[Seconds, Meta(description="longest wait for a connection, s")] = (
        2.0
    )
    # Clients and proxies commonly give up after a minute without an answer.
    first_byte_timeout_s: Annotated[
        Seconds,
        Meta(description="longest wait for the first piece of an answer, queue and load included"),
    ] = 60.0
    # The slowest machine worth asking makes a token a second.
    idle_timeout_s: Annotated[
        Seconds, Meta(description="longest wait for the next piece of an answer, s")
    ] = 30.0
    max_concurrent: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | None,
        Meta(description="requests it gets at once; null: no limit"),
    ] = None
    # Another value than the last one makes Ollama load its model again.
    context: Annotated[
        Annotated[int, Meta(ge=128, le=1 << 20)] | None,
        Meta(
            description="context tokens a request may take there, and Ollama is asked for; "
            "null: what the peer tells, and of Ollama as much as a request needs"
        ),
    ] = None

    def __post_init__(self) -> None:
        """Check what no single constraint can.

        Raises:
            ValueError: the name is taken by this gateway, or the URL cannot be one of a peer.
        """
        if self.name == "local":
            msg = "a peer cannot be called 'local': that is this gateway itself"
            raise ValueError(msg)
        if problem := _url_problem(self.url):
            msg = f"url of peer {self.name!r} {problem}"
            raise ValueError(msg)


def _url_problem(url: str) -> str | None:
    """Return what is wrong with the URL of a peer."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError as exc:
        return f"cannot be read: {exc}"
    if parts.username is not None or parts.password is not None:
        return "holds a name or password; a key belongs into api_key_file"
    has_more = (
        parts.query or parts.fragment or " " in url or not (url.isascii() and url.isprintable())
    )
    if not is_address or has_more:
        return "must be http://host:port or https://host:port, perhaps with a path"
    if parts.path.rstrip("/").endswith(("/v1", "/api")):
        return "must end before /v1 or /api"
    return None


class Daemon(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Life of the daemon."""

    # systemd's own TimeoutStopSec is 90 s; ours ends well before it.
    drain_s: Annotated[
        Seconds, Meta(description="how long running answers may finish on SIGTERM, s")
    ] = 10.0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="least level logged")
    ] = "info"
    log_format: Annotated[
        Literal["text", "json"], Meta(description="one line of key=value, or of JSON")
    ] = "text"


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it."""

    model: Annotated[
        Annotated[str, Meta(min_length=1, max_length=128)] | None,
        Meta(description="package to serve; null: none, peers answer everything"),
    ] = "smollm2-135m-instruct"
    # Beyond a handful nobody knows any more why a request went where it went.
    peers: Annotated[
        tuple[Peer, ...],
        Meta(max_length=16, description="servers that answer when this one cannot"),
    ] = ()
    http: Http = Http()
    mqtt: Mqtt = Mqtt()
    engine: Engine = Engine()
    memory: Memory = Memory()
    journal: Journal = Journal()
    limits: Limits = Limits()
    daemon: Daemon = Daemon()
    routing: Routing = Routing()

    def __post_init__(self) -> None:
        """Check what no single key can.

        Raises:
            ValueError: two peers have one name, or there is nobody to answer.
        """
        names = [peer.name for peer in self.peers]
        if twice := next((name for name in names if names.count(name) > 1), None):
            msg = f"two peers are called {twice!r}"
            raise ValueError(msg)
        if self.model is None and (not self.peers or self.routing.fallback == "never"):
            msg = "model is null, and no peer may answer (peers, routing.fallback)"
            raise ValueError(msg)

    @property
    def default_model(self) -> str:
        """What answers requests that name no model: ours, else that of the first peer."""
        return self.model or self.peers[0].model

    @property
    def node(self) -> str:
        """This gateway's name in topics and logs."""
        return self.mqtt.node or socket.gethostname()


class Knob(Struct, frozen=True):
    """One documented configuration key."""

    path: str
    default: object
    help: str


def knobs() -> Iterator[Knob]:
    """Yield every configuration key with its default and help, in the order of the classes."""
    yield from _knobs(Config, "")


def _knobs(cls: type[Struct], prefix: str) -> Iterator[Knob]:
    hints = get_type_hints(cls, include_extras=True)
    for field in msgspec.structs.fields(cls):
        if isinstance(field.type, type) and issubclass(field.type, Struct):
            yield from _knobs(field.type, f"{prefix}{field.name}.")
        else:
            yield Knob(f"{prefix}{field.name}", field.default, _help(hints[field.name]))


def _help(hint: object) -> str:
    metas = [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, Meta)]
    return next((meta.description for meta in reversed(metas) if meta.description), "")


def home_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where state lives: `$EDGE_AGENT_HOME`, systemd's `$STATE_DIRECTORY`, or per XDG."""
    if home := environ.get("EDGE_AGENT_HOME"):
        return Path(home)
    if state := environ.get("STATE_DIRECTORY"):
        return Path(state.split(":")[0])
    data = environ.get("XDG_DATA_HOME") or Path(environ.get("HOME", "/root")) / ".local" / "share"
    return Path(data) / "edge-agent"


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read the configuration from `path` (else the default file, if there) and the environment.

    Raises:
        ConfigError: unreadable file, bad YAML, unknown key, wrong type or out of range.
    """
    if path is None and (named := environ.get("EDGE_AGENT_CONFIG")):
        path = Path(named)
    where = str(path or DEFAULT_FILE)
    tree = _read_yaml(path) if path or DEFAULT_FILE.is_file() else {}
    _check_keys(tree, Config, where)
    for name, value in _environment(environ):
        _insert(tree, name, value)
    try:
        return msgspec.convert(tree, Config)
    except msgspec.ValidationError as exc:
        raise ConfigError(where, str(exc).replace("`$.", "`")) from exc


def _read_yaml(path: Path | None) -> dict[str, Any]:
    path = path or DEFAULT_FILE
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise ConfigError(str(path), str(exc)) from exc
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(str(path), f"expected keys and values, found {type(tree).__name__}")
    return tree


def _environment(environ: Mapping[str, str]) -> Iterator[tuple[str, object]]:
    for variable, text in sorted(environ.items()):
        if not variable.startswith(ENV_PREFIX) or variable in ENV_RESERVED:
            continue
        dotted = variable.removeprefix(ENV_PREFIX).lower().replace("__", ".")
        _check_key(dotted, [knob.path for knob in knobs()], f"environment {variable}")
        try:
            yield dotted, yaml.safe_load(text)
        except yaml.YAMLError as exc:
            msg = f"environment {variable}"
            raise ConfigError(msg, str(exc)) from exc


def _insert(tree: dict[str, Any], dotted: str, value: object) -> None:
    *parents, leaf = dotted.split(".")
    for parent in parents:
        if tree.get(parent) is None:  # not there, or a section without keys
            tree[parent] = {}
        section: object = tree[parent]
        if not isinstance(section, dict):
            return  # the file is wrong here, and the check of the whole will say so
        tree = section
    tree[leaf] = value


def _check_keys(tree: Mapping[str, Any], cls: type[Struct], where: str, prefix: str = "") -> None:
    known = {field.name: field.type for field in msgspec.structs.fields(cls)}
    for key, value in tree.items():
        _check_key(f"{prefix}{key}", [f"{prefix}{name}" for name in known], where)
        kind = known[key]
        if isinstance(kind, type) and issubclass(kind, Struct) and isinstance(value, dict):
            _check_keys(value, kind, where, f"{prefix}{key}.")


def _check_key(key: str, known: list[str], where: str) -> None:
    if key in known:
        return
    near = difflib.get_close_matches(key, known, n=1, cutoff=0)
    hint = f"; the nearest known key is {near[0]!r}" if near else ""
    raise ConfigError(where, f"unknown key {key!r}{hint}")
