"""What is remembered of one request for its log line: counts and times, never text."""

from __future__ import annotations

from edge_agent.messages import Accepted, Delta, Done, Event, Failed, ToolCall
from edge_agent.ops.story import Story

LINE = (
    "request done id=%s by=%s why=%s reason=%s prompt_tokens=%d cached_tokens=%d new_tokens=%d "
    "ttft_ms=%s total_ms=%.0f"
)
LEFT = "left"  # the reader closed the stream before its end


class Record:
    """The story of one request, told by its events."""

    def __init__(self, request_id: str, *, began_s: float) -> None:
        self.began_s = began_s
        self.is_accepted = False
        self.done: Done | None = None
        self._id = request_id
        self._by: str | None = None
        self._why = ""
        self._outcome = LEFT
        self._prompt_tokens = 0
        self._new_tokens = 0
        self._first_s: float | None = None

    @property
    def is_local(self) -> bool:
        """Whether the engine here took it, and nobody after it."""
        return self._by == "local"

    def note(self, event: Event, *, now_s: float) -> None:
        """Take `event`, which passed at `now_s`, into account."""
        match event:
            case Accepted():
                self.is_accepted = True
                self._by = event.served_by
                self._why = event.reason
                self._prompt_tokens = event.prompt_tokens or 0
            case Delta() | ToolCall():
                self._new_tokens += 1  # or nearly: `Done` has the exact number
                if self._first_s is None:
                    self._first_s = now_s
            case Done():
                self.done = event
                self._outcome = event.finish_reason
                self._prompt_tokens = event.usage.prompt_tokens
                self._new_tokens = event.usage.completion_tokens
            case Failed():
                self._outcome = event.code
                self._why = event.reason or self._why

    def story(self, *, now_s: float) -> Story:
        """Return what happened, as of `now_s`."""
        return Story(
            served_by=self._by,
            reason=self._why,
            outcome=self._outcome,
            prompt_tokens=self._prompt_tokens,
            new_tokens=self._new_tokens,
            first_s=None if self._first_s is None else self._first_s - self.began_s,
            total_s=now_s - self.began_s,
            done=self.done,
        )

    def line(self, *, now_s: float) -> tuple[str | float, ...]:
        """Return the log line's template and its values."""
        story = self.story(now_s=now_s)
        ttft_ms = "-" if story.first_s is None else f"{story.first_s * 1e3:.0f}"
        who = (story.served_by or "-", story.reason or "-", story.outcome)
        cached_tokens = story.done.usage.cached_tokens if story.done else 0
        tokens = (story.prompt_tokens, cached_tokens, story.new_tokens)
        return LINE, self._id, *who, *tokens, ttft_ms, story.total_s * 1e3
