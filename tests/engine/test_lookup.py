"""What is guessed from what came before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.engine.lookup import LONGEST_MATCH, Guess, PromptLookup


def guess(tokens: list[int], most_tokens: int = 3) -> Guess:
    return PromptLookup(tokens).guess(most_tokens)


def test_nothing_is_guessed_from_what_never_came() -> None:
    assert guess([]) == Guess()
    assert guess([1, 2, 3]) == Guess()


def test_what_followed_the_last_tokens_is_guessed() -> None:
    assert guess([7, 8, 1, 2, 3, 9, 7, 8]) == Guess((1, 2, 3), 2)


def test_one_token_that_agrees_is_a_guess_too_the_latest_of_such() -> None:
    assert guess([5, 1, 5, 2, 4, 3, 5]) == Guess((2, 4, 3), 1)


def test_the_longest_agreement_is_better_than_the_latest() -> None:
    old, late = [1, 2, 3, 4, 11, 12, 13], [9, 3, 4, 21, 22, 23]

    assert guess([*old, *late, 1, 2, 3, 4]) == Guess((11, 12, 13), 4)
    assert guess([*old, *late, 0, 3, 4]) == Guess((21, 22, 23), 2)


def test_what_repeats_is_guessed_to_go_on() -> None:
    assert guess([1, 2, 1, 2, 1, 2], 5) == Guess((1, 2, 1, 2, 1), 4)
    assert guess([7, 7], 4) == Guess((7, 7, 7, 7), 1)


def test_a_place_is_followed_until_it_is_wrong() -> None:
    lookup = PromptLookup([1, 2, 3, 4, 5, 6, 3, 4, 9, 1, 2])
    assert lookup.guess(2) == Guess((3, 4), 2)
    lookup.add(3)
    lookup.add(4)
    assert lookup.guess(2) == Guess((5, 6), 4)
    lookup.add(9)
    assert lookup.guess(1) == Guess((1,), 3)


TOKENS = st.lists(st.integers(0, 3), max_size=80)


def ends_before(tokens: list[int], match_tokens: int) -> list[int]:
    """Return where the last `match_tokens` tokens ended earlier."""
    end = tokens[len(tokens) - match_tokens :]
    return [
        at
        for at in range(match_tokens - 1, len(tokens) - 1)
        if tokens[at - match_tokens + 1 : at + 1] == end
    ]


@given(TOKENS, TOKENS, st.integers(1, 8))
def test_a_guess_is_what_followed_an_equal_stretch(
    prompt: list[int], answer: list[int], most_tokens: int
) -> None:
    lookup = PromptLookup(prompt)
    known = list(prompt)
    for token in [*answer, None]:
        found = lookup.guess(most_tokens)
        assert found.match_tokens <= LONGEST_MATCH
        assert bool(found.tokens) == (known[-1:] != [] and known[-1] in known[:-1])
        if found.tokens:
            assert len(found.tokens) == most_tokens
            extended = [*known, *found.tokens]
            places = ends_before(known, found.match_tokens)
            assert any(
                tuple(extended[at + 1 : at + 1 + most_tokens]) == found.tokens for at in places
            )
        if token is not None:
            lookup.add(token)
            known.append(token)
