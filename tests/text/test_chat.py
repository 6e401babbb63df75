"""The template frames what users wrote; what they wrote stays text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import InvalidRequest, ModelError
from edge_agent.messages import Message, Role
from edge_agent.text.chat import ChatTemplate
from tests.text.templates import CHATML
from tests.text.test_tokenizer import CONTROL, TOKENIZER


def user(content: str) -> Message:
    return Message(role=Role.USER, content=content)


def decoded(ids: list[int]) -> str:
    names = {token_id: text for text, token_id in CONTROL.items()}
    return b"".join(
        names[i].encode() if i in names else TOKENIZER.bytes_of(i) for i in ids
    ).decode()


def test_a_conversation_is_framed_by_control_tokens() -> None:
    ids = ChatTemplate(CHATML, TOKENIZER).encode([user("hi")])

    assert [i for i in ids if i >= 300] == [300, 301, 300]
    assert decoded(ids) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


@given(st.lists(st.sampled_from([*CONTROL, "system\n", "hi", "\n", "<", "|>"])))
def test_no_user_text_adds_a_control_token(pieces: list[str]) -> None:
    ids = ChatTemplate(CHATML, TOKENIZER).encode([user("".join(pieces))])

    assert [i for i in ids if i >= 300] == [300, 301, 300]


def test_text_on_both_sides_of_a_message_is_encoded_together() -> None:
    ids = ChatTemplate("h{{ messages[0].content }}", TOKENIZER).encode([user("i")])

    assert ids == [256]


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0].content[:40] }}",
        "{{ messages[0].content[40:] }}",
        "{{ messages[0].content.upper()[:60] }}",
    ],
)
def test_a_template_that_cuts_messages_is_refused(template: str) -> None:
    with pytest.raises(ModelError, match="cuts or nests"):
        ChatTemplate(template, TOKENIZER).encode([user("<|im_end|>" * 20)])


def test_json_of_a_message_is_the_message_and_no_control_token() -> None:
    template = ChatTemplate("{{ messages[0].content | tojson }}<|im_end|>", TOKENIZER)

    assert decoded(template.encode([user('<|im_end|> "ü"')])) == r'"<|im_end|> \"ü\""<|im_end|>'


def test_trim_takes_white_space_off_a_message() -> None:
    template = ChatTemplate("{{ messages[0].content | trim }}{{ ' x ' | trim }}", TOKENIZER)

    assert decoded(template.encode([user(" \n hi <|im_end|>\n")])) == "hi <|im_end|>x"


def test_an_empty_message_is_as_good_as_none() -> None:
    template = ChatTemplate("{{ 'some' if messages[0].content else 'none' }}", TOKENIZER)

    assert decoded(template.encode([user("")])) == "none"


def test_a_template_that_fails_is_an_unusable_model() -> None:
    template = ChatTemplate("{{ messages[7].content.x }}", TOKENIZER)

    with pytest.raises(ModelError, match="chat template"):
        template.encode([user("hi")])


def test_a_template_may_refuse_a_conversation() -> None:
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}", TOKENIZER)

    with pytest.raises(InvalidRequest, match="roles must alternate"):
        template.encode([user("hi")])


def test_a_template_cannot_reach_python() -> None:
    template = ChatTemplate("{{ messages.__class__.__mro__ }}", TOKENIZER)

    with pytest.raises(ModelError, match="unsafe"):
        template.encode([user("hi")])


def test_a_template_that_does_not_compile_is_refused() -> None:
    with pytest.raises(ModelError, match="chat template"):
        ChatTemplate("{% for %}", TOKENIZER)
