"""What Prometheus is told."""

from __future__ import annotations

from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from edge_agent.messages import Done, FinishReason, Timings, Usage
from edge_agent.ops.health import Health, PeerHealth, State
from edge_agent.ops.lag import LoopLag
from edge_agent.ops.memory_health import MemoryHealth
from edge_agent.ops.metrics import Metrics
from edge_agent.ops.story import Story

HEALTH = Health(
    state=State.READY,
    detail="",
    version="1",
    model="tiny",
    models=(),
    uptime_s=5.0,
    slots=4,
    running=2,
    waiting=3,
    engine_restarts=1,
    jobs_open=7,
    durability="full",
    mqtt="off",
    held=1,
    predicted_bytes=1000,
    kv_usage=0.25,
    kept_bytes=4096,
    drafted_tokens=70,
    accepted_tokens=50,
    loop_lag=LoopLag(p99_s=0.02, worst_s=0.3),
    peers=(
        PeerHealth(
            name="attic", kind="ollama", zone="site", model="phi", breaker="open", running=2
        ),
    ),
    memory=MemoryHealth(
        level="hard",
        reason="",
        level_s=1.0,
        may_begin=True,
        available_bytes=123,
        swift_bytes=None,
        total_bytes=999,
        bound="machine",
        rss_anon_bytes=55,
        rss_file_bytes=66,
    ),
)
STORY = Story(
    served_by="local",
    reason="local",
    outcome="stop",
    prompt_tokens=7,
    new_tokens=3,
    first_s=0.5,
    total_s=1.5,
    done=Done(
        finish_reason=FinishReason.STOP,
        usage=Usage(prompt_tokens=7, completion_tokens=3, cached_tokens=4),
        timings=Timings(queue_s=0.1, prefill_s=0.4, decode_s=1.0),
    ),
)


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Return all samples by name and values of labels."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_scrape_tells_how_it_is_now() -> None:
    seen = samples(Metrics("tiny", lambda: HEALTH))
    assert seen["vllm:num_requests_running", "tiny"] == 2
    assert seen["vllm:num_requests_waiting", "tiny"] == 4  # one of them for memory
    assert seen["edge_agent_pressure_level",] == 2
    assert seen["edge_agent_memory_available_bytes",] == 123
    assert seen["edge_agent_rss_anon_bytes",] == 55
    assert seen["edge_agent_predicted_bytes",] == 1000
    assert seen["edge_agent_loop_lag_p99_seconds",] == 0.02
    assert seen["edge_agent_loop_lag_worst_seconds",] == 0.3
    assert seen["edge_agent_jobs_open",] == 7
    assert seen["edge_agent_engine_restarts_total",] == 1
    assert seen["vllm:kv_cache_usage_perc", "tiny"] == 0.25
    assert seen["edge_agent_kept_prefix_bytes",] == 4096
    assert seen["vllm:spec_decode_num_draft_tokens_total", "tiny"] == 70
    assert seen["vllm:spec_decode_num_accepted_tokens_total", "tiny"] == 50
    assert seen["edge_agent_engine_state", "ready"] == 1
    assert seen["edge_agent_engine_state", "held"] == 0
    assert seen["edge_agent_peer_running", "attic"] == 2
    assert seen["edge_agent_peer_breaker", "attic", "open"] == 1
    assert seen["edge_agent_peer_breaker", "attic", "closed"] == 0
    assert ("edge_agent_memory_swift_bytes",) not in seen
    assert ("edge_agent_expected_wait_seconds",) not in seen


def test_what_nobody_knows_is_not_told() -> None:
    blind = replace(HEALTH, memory=None, peers=(), loop_lag=None, expected_wait_s=2.5)
    seen = samples(Metrics("tiny", lambda: blind))
    assert not any(name.startswith(("edge_agent_memory", "edge_agent_loop")) for name, *_ in seen)
    assert seen["edge_agent_expected_wait_seconds",] == 2.5


def test_an_answer_is_counted_once_in_every_way() -> None:
    metrics = Metrics("tiny", lambda: HEALTH)
    metrics.finished(STORY)
    seen = samples(metrics)
    assert seen["edge_agent_requests_total", "stop", "local", "local"] == 1
    assert seen["vllm:request_success_total", "stop", "tiny"] == 1
    assert seen["vllm:prompt_tokens_total", "tiny"] == 7
    assert seen["vllm:generation_tokens_total", "tiny"] == 3
    assert seen["vllm:prefix_cache_queries_total", "tiny"] == 7
    assert seen["vllm:prefix_cache_hits_total", "tiny"] == 4
    assert seen["vllm:time_to_first_token_seconds_sum", "tiny"] == 0.5
    assert seen["vllm:e2e_request_latency_seconds_sum", "tiny"] == 1.5
    assert seen["vllm:request_queue_time_seconds_sum", "tiny"] == 0.1
    assert seen["vllm:request_time_per_output_token_seconds_sum", "tiny"] == 0.5


def test_what_a_peer_knew_is_none_of_our_cache() -> None:
    metrics = Metrics("tiny", lambda: HEALTH)
    metrics.finished(replace(STORY, served_by="attic"))
    seen = samples(metrics)
    assert seen["vllm:prompt_tokens_total", "tiny"] == 7
    assert seen["vllm:prefix_cache_queries_total", "tiny"] == 0
    assert seen["vllm:prefix_cache_hits_total", "tiny"] == 0


def test_a_failure_is_no_answer() -> None:
    metrics = Metrics("tiny", lambda: HEALTH)
    failed = replace(STORY, served_by=None, outcome="overloaded", done=None, first_s=None)
    metrics.finished(failed)
    metrics.finished(replace(failed, outcome="left"))
    metrics.refused("queue")
    seen = samples(metrics)
    assert seen["vllm:request_success_total", "error", "tiny"] == 1
    assert seen["vllm:request_success_total", "abort", "tiny"] == 1
    assert seen["edge_agent_requests_total", "overloaded", "local", ""] == 1
    assert seen["edge_agent_refusals_total", "queue"] == 1
    assert seen["vllm:time_to_first_token_seconds_count", "tiny"] == 0
    assert seen["vllm:generation_tokens_total", "tiny"] == 0
