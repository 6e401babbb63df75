"""What is remembered of one request for its log line: counts and times, never text."""

from __future__ import annotations

from edge_agent.messages import Accepted, Delta, Done, Event, Failed, ToolCall

LINE = "request done id=%s by=%s reason=%s prompt_tokens=%d new_tokens=%d ttft_ms=%s total_ms=%.0f"


class Record:
    """The story of one request, told by its events."""

    def __init__(self, request_id: str, *, began_s: float) -> None:
        self.began_s = began_s
        self.is_accepted = False
        self.done: Done | None = None
        self._id = request_id
        self._by = "-"
        self._reason = "left"  # the reader closed the stream before its end
        self._prompt_tokens = 0
        self._new_tokens = 0
        self._first_s: float | None = None

    def note(self, event: Event, *, now_s: float) -> None:
        """Take `event`, which passed at `now_s`, into account."""
        match event:
            case Accepted():
                self.is_accepted = True
                self._by = event.served_by
                self._prompt_tokens = event.prompt_tokens or 0
            case Delta() | ToolCall():
                self._new_tokens += 1  # or nearly: `Done` has the exact number
                if self._first_s is None:
                    self._first_s = now_s
            case Done():
                self.done = event
                self._reason = event.finish_reason
                self._new_tokens = event.usage.completion_tokens
            case Failed():
                self._reason = event.code

    def line(self, *, now_s: float) -> tuple[str | float, ...]:
        """Return the log line's template and its values."""
        ttft_ms = "-"
        if self._first_s is not None:
            ttft_ms = f"{(self._first_s - self.began_s) * 1e3:.0f}"
        total_ms = (now_s - self.began_s) * 1e3
        tokens = (self._prompt_tokens, self._new_tokens)
        return LINE, self._id, self._by, self._reason, *tokens, ttft_ms, total_ms
