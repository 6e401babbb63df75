"""What is counted, for Prometheus: vLLM's names where there are such, ours for the rest.

Counters and histograms live here; what is true at the moment of a scrape is read from `Health`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from edge_agent.ops.health import LOCAL, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric

    from edge_agent.ops.health import Health
    from edge_agent.ops.story import Story

METRICS_TYPE = CONTENT_TYPE_PLAIN_0_0_4

# The slowest board takes minutes to the first token of a long prompt.
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
_TOKEN_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
_LEVELS = ("calm", "soft", "hard", "critical")
_BREAKERS = ("closed", "resting", "open", "half_open")
_FINISHED = {"stop": "stop", "length": "length", "tool_calls": "stop", "left": "abort"}


class Metrics:
    """Everything that is counted, of one daemon."""

    def __init__(self, model: str, health: Callable[[], Health]) -> None:
        """`model` is the label `model_name` of vLLM's names."""
        self._registry = CollectorRegistry()
        self._registry.register(_Now(model, health))
        self._model = model
        self._served = Counter(
            "edge_agent_requests",
            "Requests that are over, by who answered, why that one (or nobody), and how it ended.",
            ("served_by", "reason", "outcome"),
            registry=self._registry,
        )
        self._refused = Counter(
            "edge_agent_refusals",
            "Requests that neither the model here nor a peer was asked, by reason.",
            ("reason",),
            registry=self._registry,
        )
        self._prompt_tokens = self._counter("prompt_tokens", "Prompt tokens of answers.")
        self._new_tokens = self._counter("generation_tokens", "Tokens of answers.")
        self._queried = self._counter(
            "prefix_cache_queries", "Prompt tokens that were looked up in the KV cache."
        )
        self._hit = self._counter("prefix_cache_hits", "Those that were there.")
        self._success = Counter(
            "vllm:request_success",
            "Requests that are over.",
            ("model_name", "finished_reason"),
            registry=self._registry,
        )
        self._first = self._histogram("time_to_first_token", "Arrival to first piece.")
        self._total = self._histogram("e2e_request_latency", "Arrival to end.")
        self._queue = self._histogram("request_queue_time", "Waiting for a slot.")
        self._prefill = self._histogram("request_prefill_time", "Reading the prompt.")
        self._decode = self._histogram("request_decode_time", "Writing the answer.")
        self._token = self._histogram(
            "request_time_per_output_token", "Decode, per token.", _TOKEN_SECONDS
        )

    def refused(self, reason: str) -> None:
        """Count a request that was refused for `reason`."""
        self._refused.labels(reason).inc()

    def finished(self, story: Story) -> None:
        """Count a request that is over."""
        self._served.labels(story.served_by or "", story.reason, story.outcome).inc()
        self._success.labels(self._model, _FINISHED.get(story.outcome, "error")).inc()
        self._total.observe(story.total_s)
        if story.first_s is not None:
            self._first.observe(story.first_s)
        if story.done is None:
            return
        timings = story.done.timings
        self._prompt_tokens.inc(story.prompt_tokens)
        self._new_tokens.inc(story.new_tokens)
        if story.served_by == LOCAL:
            self._queried.inc(story.prompt_tokens)
            self._hit.inc(story.done.usage.cached_tokens)
        self._queue.observe(timings.queue_s)
        self._prefill.observe(timings.prefill_s)
        self._decode.observe(timings.decode_s)
        if story.new_tokens > 1:
            # The first token comes out of prefill.
            self._token.observe(timings.decode_s / (story.new_tokens - 1))

    def render(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, text: str) -> Counter:
        counter = Counter(f"vllm:{name}", text, ("model_name",), registry=self._registry)
        return counter.labels(self._model)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
        histogram = Histogram(
            f"vllm:{name}_seconds",
            text,
            ("model_name",),
            registry=self._registry,
            buckets=buckets,
        )
        return histogram.labels(self._model)


class _Now(Collector):
    """What is true at this moment."""

    def __init__(self, model: str, health: Callable[[], Health]) -> None:
        self._model = model
        self._health = health

    def describe(self) -> Iterator[Metric]:
        """Name nothing beforehand: there may be no health yet when this is registered."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Yield every gauge."""
        health = self._health()
        for name, value, text in (
            ("running", health.running, "Requests that hold a slot."),
            ("waiting", health.waiting + health.held, "Requests that wait."),
        ):
            family = GaugeMetricFamily(f"vllm:num_requests_{name}", text, labels=("model_name",))
            family.add_metric((self._model,), value)
            yield family
        yield _gauge("uptime_seconds", "Since the daemon started.", health.uptime_s)
        yield _gauge("jobs_open", "Journaled jobs without a result.", health.jobs_open)
        yield _gauge("requests_held", "Requests that wait for memory.", health.held)
        yield _gauge("requests_at_peers", "Requests that peers are answering.", health.at_peers)
        yield _gauge(
            "predicted_bytes", "Memory that requests here take in all.", health.predicted_bytes
        )
        yield _one_of("engine_state", "1 for the state it is in.", "state", State, health.state)
        restarts = CounterMetricFamily("edge_agent_engine_restarts", "Crashes of the engine.")
        restarts.add_metric((), health.engine_restarts)
        yield restarts
        yield from _drafts(self._model, health)
        usage = GaugeMetricFamily(
            "vllm:kv_cache_usage_perc",
            "Share of the slots' KV cache that running requests fill, 0 to 1.",
            labels=("model_name",),
        )
        usage.add_metric((self._model,), health.kv_usage)
        yield usage
        yield _gauge("kept_prefix_bytes", "KV cache of ended requests.", health.kept_bytes)
        if health.expected_wait_s is not None:
            yield _gauge(
                "expected_wait_seconds", "Until a slot, for a new request.", health.expected_wait_s
            )
        if health.loop_lag is not None:
            yield _gauge(
                "loop_lag_p99_seconds", "Event loop, within a minute.", health.loop_lag.p99_s
            )
            yield _gauge(
                "loop_lag_worst_seconds", "Event loop, within a minute.", health.loop_lag.worst_s
            )
        yield from _memory(health)
        yield from _peers(health)


def _drafts(model: str, health: Health) -> Iterator[Metric]:
    for name, value, text in (
        ("draft_tokens", health.drafted_tokens, "Guessed tokens that were verified."),
        ("accepted_tokens", health.accepted_tokens, "Guessed tokens that came true."),
    ):
        family = CounterMetricFamily(f"vllm:spec_decode_num_{name}", text, labels=("model_name",))
        family.add_metric((model,), value)
        yield family


def _memory(health: Health) -> Iterator[Metric]:
    memory = health.memory
    if memory is None:
        return
    yield _gauge(
        "pressure_level", "0 calm, 1 soft, 2 hard, 3 critical.", _LEVELS.index(memory.level)
    )
    for name, value, text in (
        ("memory_available_bytes", memory.available_bytes, "What can still be taken."),
        ("memory_swift_bytes", memory.swift_bytes, "The same, mapped weights left alone."),
        ("memory_total_bytes", memory.total_bytes, "What that is a part of."),
        ("rss_anon_bytes", memory.rss_anon_bytes, "Anonymous memory of daemon and engine."),
        ("rss_file_bytes", memory.rss_file_bytes, "File pages of daemon and engine."),
    ):
        if value is not None:
            yield _gauge(name, text, value)


def _peers(health: Health) -> Iterator[Metric]:
    running = GaugeMetricFamily(
        "edge_agent_peer_running", "Requests that the peer is answering.", labels=("peer",)
    )
    breaker = GaugeMetricFamily(
        "edge_agent_peer_breaker",
        "1 for the state its breaker is in.",
        labels=("peer", "state"),
    )
    for peer in health.peers:
        running.add_metric((peer.name,), peer.running)
        for state in _BREAKERS:
            breaker.add_metric((peer.name, state), peer.breaker == state)
    yield from (running, breaker)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"edge_agent_{name}", text, value=value)


def _one_of(
    name: str, text: str, label: str, values: type[State], current: State
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"edge_agent_{name}", text, labels=(label,))
    for value in values:
        family.add_metric((value.value,), value is current)
    return family
