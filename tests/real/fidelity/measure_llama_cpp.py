"""Adds to `reference.json` how near llama.cpp comes to the reference: the bar for our engine.

Run by hand from the project's root, beside a llama-server that has loaded the GGUF the reference
was made of:

    python -m tests.real.fidelity.measure_llama_cpp http://127.0.0.1:8080 VERSION

It gets the very same prompt ids, one prompt at a time, with nothing kept between them.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.request

import msgspec

from tests.real.fidelity.agreement import count_agreement
from tests.real.fidelity.reference import (
    ANSWER_TOKENS,
    Peer,
    read_reference,
    write_reference,
)

# A long prompt on a busy two-core machine takes seconds; a server that needs longer is stuck.
ANSWER_TIMEOUT_S = 120.0


def ask(server: str, prompt_ids: tuple[int, ...]) -> list[int]:
    """Return the greedy answer of llama-server to `prompt_ids`, its stop token included."""
    body = {
        "prompt": prompt_ids,
        "n_predict": ANSWER_TOKENS,
        "temperature": 0,
        "top_k": 1,
        "cache_prompt": False,
        "return_tokens": True,
    }
    request = urllib.request.Request(  # noqa: S310  # a server of our own, named on the command line
        f"{server}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_S) as answer:  # noqa: S310  # same
        tokens: list[int] = json.load(answer)["tokens"]
    return tokens


def main() -> None:
    """Measure and store the counts under the name `llama.cpp`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server")
    parser.add_argument("version")
    args = parser.parse_args()

    reference = read_reference()
    answers = [ask(args.server, expected.prompt_ids) for expected in reference.answers]
    agreement = count_agreement([(each.ids, each.gaps) for each in reference.answers], answers)
    sys.stdout.write(f"llama.cpp {args.version}: {agreement}\n")
    peers = reference.peers | {"llama.cpp": Peer.of(args.version, agreement)}
    write_reference(msgspec.structs.replace(reference, peers=peers))


if __name__ == "__main__":
    main()
