"""Writes `reference.json`: what the float model answers to `prompts.json`, token by token.

Run by hand from the project's root, where torch, transformers and msgspec are installed; no test
imports this file:

    python -m tests.real.fidelity.make_reference SMOLLM2_DIRECTORY

The directory is the Hugging Face form of the dequantized GGUF weights (float32). The prompts go
through the chat template stored there; the text is cut as the model was trained (single digits,
then byte-level BPE), which the tokenizer converted from the GGUF forgets. Greedy in float32 on one
thread; every step keeps its two best logits, so that a reader can tell a tie from a mistake.
`measure_llama_cpp.py` adds the figures of the peer afterwards.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch  # type: ignore[import-not-found]  # only where the reference is made
import transformers  # type: ignore[import-not-found]  # only where the reference is made
from tokenizers import Tokenizer, pre_tokenizers

from tests.real.fidelity.reference import (
    ANSWER_TOKENS,
    PROMPTS_PATH,
    Expected,
    Maker,
    Reference,
    Step,
    write_reference,
)

STOP_TOKENS = ("<|im_end|>", "<|endoftext|>")
# Four digits keep a gap of 0.1 exact to a thousandth of itself and the file small.
LOGIT_DIGITS = 4


def load_tokenizer(directory: Path) -> Tokenizer:
    """Return the tokenizer of the model, with the split into single digits put back."""
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    return tokenizer


def load_model(directory: Path) -> Any:
    """Return the model in float32 with the plain attention of the definition."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


def greedy(model: Any, prompt_ids: list[int], stop_ids: tuple[int, ...]) -> tuple[Step, ...]:
    """Return the model's greedy steps, up to 32 or to a stop token."""
    steps: list[Step] = []
    ids, cache = torch.tensor([prompt_ids]), None
    while len(steps) < ANSWER_TOKENS and not (steps and steps[-1].token in stop_ids):
        out = model(input_ids=ids, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        values, tokens = out.logits[0, -1].topk(2)
        rounded = (round(value, LOGIT_DIGITS) for value in values.tolist())
        steps.append(Step(*tokens.tolist(), *rounded))
        ids = tokens[:1].view(1, 1)
    return tuple(steps)


def main() -> None:
    """Answer every prompt and write the reference beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory

    model, tokenizer = load_model(directory), load_tokenizer(directory)
    template = transformers.AutoTokenizer.from_pretrained(directory)
    stop_ids = tuple(tokenizer.encode(token).ids[0] for token in STOP_TOKENS)
    answers = []
    for prompt in json.loads(PROMPTS_PATH.read_text()):
        text = template.apply_chat_template(
            prompt["messages"], tokenize=False, add_generation_prompt=True
        )
        prompt_ids = tokenizer.encode(text, add_special_tokens=False).ids
        expected = Expected(prompt["name"], tuple(prompt_ids), greedy(model, prompt_ids, stop_ids))
        answers.append(expected)
        text = tokenizer.decode(list(expected.ids))
        sys.stdout.write(f"{len(prompt_ids)} {expected.name} -> {text}\n")

    weights = (directory / "model.safetensors").read_bytes()
    maker = Maker(
        str(torch.__version__), transformers.__version__, hashlib.sha256(weights).hexdigest()
    )
    write_reference(Reference(maker, stop_ids, {}, tuple(answers)))


if __name__ == "__main__":
    main()
