"""The names by which tracks, targets and tables know laps and contestants."""

from __future__ import annotations

OURS = "ours"
LLAMA_Q4_0 = "llama.cpp q4_0"
LLAMA_Q4_0_PURE = "llama.cpp q4_0_pure"
LLAMA_Q4_K_M = "llama.cpp q4_k_m"
LLAMA_Q8_KV = "llama.cpp q4_0, q8_0 cache"
GENAI_128 = "onnxruntime-genai block 128"
GENAI_32 = "onnxruntime-genai block 32"
SMOLLM2_GENAI = "onnxruntime-genai int4"
DAEMON = "our daemon, as shipped"
DAEMON_INT4 = "our daemon, int4"
VLLM = "vLLM"
OURS_INT8_KV = "ours, int8 cache"

SHIPPED = "smollm2-135m-instruct"
INT4 = "smollm2-int4"

MEMORY = "memory"
MEMORY_LONG = "memory at 32,768 tokens"
PACE = "pace beside a prompt"
IDLE = "idle daemon"
TTFT = "first token behind 1,000 known"
SHIPPED_PLAIN, SHIPPED_DRAFTS = "ours as shipped", "ours as shipped, drafts"
INT4_PLAIN, INT4_DRAFTS = "ours int4", "ours int4, drafts"
SMOLLM2_DECODE = "SmolLM2 decode at 128"
SMOLLM2_STREAMS = "SmolLM2 4 streams"
PERPLEXITY = "perplexity"


def prefill(tokens: int) -> str:
    """Return the name of the lap that reads so many tokens."""
    return f"prefill {tokens:,}"


def decode(depth_tokens: int) -> str:
    """Return the name of the lap that decodes behind so many tokens."""
    return f"decode at {depth_tokens:,}"


def share(depth_tokens: int) -> str:
    """Return the name of the lap that decodes there in turns with plain readers of memory."""
    return f"memory bandwidth at {depth_tokens:,}"


def drafts(workload: str) -> str:
    """Return the name of the lap of a workload with and without drafts."""
    return f"drafts, {workload.replace('_', ' ')}"


def streams(count: int) -> str:
    """Return the name of the lap with so many answers at once."""
    return "1 stream" if count == 1 else f"{count} streams"
