"""Conversations to token ids, by the chat template of the model's package.

The template runs in jinja2's sandbox. Whatever a stranger wrote passes through it inside marks, so
that control tokens are only made of what the template says itself. Text on both sides of a mark is
encoded together, as the reference tokenizers do; only white space at the beginning of a content,
which they let a control token before it take in, survives here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edge_agent.errors import InvalidRequest, ModelError
from edge_agent.text.marks import Marks
from edge_agent.text.tokenizer import TooMany
from edge_agent.text.tool_prompt import ToolPrompt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jinja2.runtime import Context

    from edge_agent.messages import Message, Tool, ToolChoice
    from edge_agent.text.tokenizer import Tokenizer
    from edge_agent.text.tool_prompt import Opening

# Where filters find the marks; no template has such a variable of its own.
_MARKS = "edge_agent_marks"


class ChatTemplate:
    """A model's way to write a conversation."""

    def __init__(self, source: str, tokenizer: Tokenizer) -> None:
        """Compile `source`, a jinja2 chat template as Hugging Face packages carry it.

        Raises:
            ModelError: the template does not compile.
        """
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _refuse
        environment.filters |= {"tojson": _tojson, "trim": _trim}
        self._tokenizer = tokenizer
        try:
            self._template = environment.from_string(source)
            self._tools = ToolPrompt(environment.parse(source), source)
        # The last two: what nests too deeply for the parser, or for Python's own compiler.
        except (jinja2.TemplateError, RecursionError, SyntaxError) as exc:
            msg = f"chat template: {exc}"
            raise ModelError(msg) from exc

    @classmethod
    def load(cls, path: Path, tokenizer: Tokenizer) -> ChatTemplate:
        """Read and compile the template file of a package.

        Raises:
            ModelError: unreadable or does not compile.
        """
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            msg = f"{path}: {exc}"
            raise ModelError(msg) from exc
        return cls(source, tokenizer)

    def opening(self, choice: ToolChoice) -> Opening | None:
        """Return what an answer has to begin with; None if it may begin as it likes.

        Raises:
            Unsupported: it has to be a call, and it is not known how this model begins one.
        """
        return self._tools.opening(choice)

    def encode(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] = (),
        opening: Opening | None = None,
        *,
        most: int | None = None,
    ) -> list[int]:
        """Return the prompt's token ids, ending where the assistant begins to speak.

        With an `opening` the assistant has said that much already.

        Raises:
            TooMany: there are more than `most`, and much text is left that was not looked at.
            InvalidRequest: the template does not allow this conversation.
            ModelError: the template changed what a message says, or failed.
        """
        marks = Marks()
        rendered = self._render(self._tools.variables(messages, tools, marks), marks)
        if opening:
            rendered += opening.tag + marks.text(opening.text)
        ids: list[int] = []
        text = ""
        for part, is_foreign in marks.split(rendered):
            for piece in [part] if is_foreign else self._tokenizer.split_control(part):
                if isinstance(piece, str):
                    text += piece
                else:
                    ids += [*self._encode(text, ids, most), piece]
                    text = ""
        return ids + self._encode(text, ids, most)

    def _encode(self, text: str, before: Sequence[int], most: int | None) -> list[int]:
        """Return the ids of `text`, which follow those `before`."""
        try:
            left = None if most is None else most - len(before)
            return self._tokenizer.encode(text, most=left)
        except TooMany as exc:
            raise TooMany(len(before) + exc.least) from None

    def _render(self, variables: dict[str, Any], marks: Marks) -> str:
        constants = {"add_generation_prompt": True, "bos_token": "", "eos_token": "", _MARKS: marks}
        try:
            return self._template.render(**variables, **constants)
        except InvalidRequest:
            raise
        except Exception as exc:  # what a template does wrong has the type of whatever it is
            msg = f"chat template: {exc}"
            raise ModelError(msg) from exc


def _refuse(message: str) -> NoReturn:
    """What templates call when they do not allow a conversation."""
    raise InvalidRequest(message, "messages")


@jinja2.pass_context
def _tojson(context: Context, value: object, indent: int | None = None, **style: object) -> str:
    """The filter of that name as Hugging Face's templates know it: nothing is escaped for HTML.

    `style` may have what `json.dumps` calls ensure_ascii, separators and sort_keys.
    """
    marks: Marks = context[_MARKS]
    return marks.json(value, {"indent": indent, **style})


@jinja2.pass_context
def _trim(context: Context, value: str) -> str:
    """The filter of that name, which looks inside of marks."""
    marks: Marks = context[_MARKS]
    return marks.trim(value)
