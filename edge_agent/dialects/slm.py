"""The `/reasoning` dialect: one prompt with a task type in, one text out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edge_agent.dialects.body import Fields, deadline_s, policy, priority, seed, stop_strings
from edge_agent.dialects.keep_alive import keep_alive_s
from edge_agent.dialects.openai import MOST_TEMPERATURE
from edge_agent.dialects.usage import usage_body
from edge_agent.errors import InvalidRequest
from edge_agent.messages import Message, Request, Role, Sampling

if TYPE_CHECKING:
    from edge_agent.config import Limits
    from edge_agent.messages import Answer, Failed

# What each task type puts before the prompt.
PREFIXES = {
    "reasoning": "Think step by step and show your reasoning clearly:",
    "math": "Solve this mathematical problem step by step:",
    "coding": "Write clean, well-commented code for this task:",
}
CAPABILITIES = tuple(PREFIXES)
# Defaults that existing callers of this surface were written against.
DEFAULT_TASK = "reasoning"
DEFAULT_MAX_LENGTH_TOKENS = 200
DEFAULT_TEMPERATURE = 0.3


def parse_reasoning(body: dict[str, Any], *, request_id: str, limits: Limits) -> Request:
    """Return what `body` asks for.

    Raises:
        InvalidRequest: a known field is missing, mistyped or out of range; `param` is its path.
    """
    fields = Fields(body)
    prompt = fields.text("prompt")
    if prompt is None:
        raise fields.missing("prompt")
    if not prompt.strip():
        raise InvalidRequest("must not be empty", "prompt")
    prefix = PREFIXES[task_type(body)]
    max_length = fields.integer("max_length", least=1, most=limits.max_answer_tokens)
    temperature = fields.number("temperature", least=0, most=MOST_TEMPERATURE)
    return Request(
        id=request_id,
        model=fields.text("model", most_chars=limits.max_model_chars),
        messages=(Message(role=Role.USER, content=f"{prefix}\n{prompt}"),),
        sampling=Sampling(
            temperature=DEFAULT_TEMPERATURE if temperature is None else temperature,
            top_p=fields.number("top_p", least=0, most=1, least_included=False),
            seed=seed(fields),
        ),
        max_tokens=DEFAULT_MAX_LENGTH_TOKENS if max_length is None else max_length,
        stop=stop_strings(fields, limits),
        stream=fields.flag("stream") or False,
        deadline_s=deadline_s(fields, limits),
        policy=policy(fields),
        priority=priority(fields),
        keep_alive_s=keep_alive_s(fields),
    )


def task_type(body: dict[str, Any]) -> str:
    """Return the task type `body` names, or the default.

    Raises:
        InvalidRequest: there is no such task type.
    """
    name = Fields(body).text("task_type")
    if name is None:
        return DEFAULT_TASK
    if name not in PREFIXES:
        raise InvalidRequest(f"must be one of {', '.join(PREFIXES)}", "task_type")
    return name


def answer_body(
    answer: Answer, *, request_id: str, task: str, model: str, inference_s: float
) -> dict[str, Any]:
    """Return the JSON object that tells of `answer`; `inference_time` is in seconds."""
    return {
        "generated_text": answer.text,
        "task_type": task,
        "inference_time": round(inference_s, 3),
        "model": model,
        "usage": usage_body(answer.done.usage),
        "finish_reason": answer.done.finish_reason.value,
        "request_id": request_id,
        "served_by": answer.served_by,
        "reason": answer.reason,
    }


def error_body(failed: Failed) -> dict[str, Any]:
    """Return the JSON object that tells of `failed`."""
    return {"error": failed.message, "code": failed.code, "param": failed.param}
