"""Templates that name tokens, made to stand alone."""

from __future__ import annotations

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edge_agent.importers.chat_template import mentions, with_tokens


def render(template: str) -> str:
    # As text/chat.py has it; the names are empty unless the template itself says more.
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(bos_token="", eos_token="", messages=["a", "b"])


@given(st.text(max_size=20))
def test_any_token_is_written_as_it_is(token: str) -> None:
    template = with_tokens("{{ bos_token }}", {"bos_token": token})

    assert render(template) == jinja2.Template("{{ x }}").render(x=token)


@pytest.mark.parametrize(
    "template",
    [
        "\n{{ eos_token }}",
        "  \n {{- eos_token }}",
        "{{ eos_token }}",
        "  {% if true %}{{ eos_token }}{% endif %}",
    ],
)
def test_the_beginning_of_a_template_is_kept(template: str) -> None:
    bound = with_tokens(template, {"eos_token": "E"})

    assert render(bound) == render(template.replace("eos_token", "'E'"))


def test_tokens_are_known_inside_loops() -> None:
    template = "{% for message in messages %}{{ bos_token + message + eos_token }}{% endfor %}"

    assert render(with_tokens(template, {"bos_token": "<", "eos_token": ">"})) == "<a><b>"


def test_a_template_that_needs_no_token_stays_as_it_is() -> None:
    template = "{{ my_bos_token }}{% for message in messages %}{% endfor %}"

    assert not mentions(template, "bos_token")
    assert with_tokens(template, {"bos_token": "<"}) == template
