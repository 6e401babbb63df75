"""Writes `reference.json`: what transformers answers greedily for the default tiny Phi-3.

Run it where torch and transformers are installed (it is no test, and no test needs them):
`PYTHONPATH=. python tests/real/doors/make_reference.py`.

Made with torch 2.13.0 and transformers 5.19.0, in float32. An answer is a list of tokens, each with
how far its logit is above the second; every step is computed anew as a whole. Ids without a token
are passed over, as everybody does who has this vocabulary. It ends before the first control token:
some of them end an answer.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch  # type: ignore[import-not-found]  # not in the project's environment
import transformers  # type: ignore[import-not-found]

from tests.importers.tiny_hf import CONTROL, ORIGINAL_CONTEXT, VOCAB, TinyHf, tokenizer

FILE = Path(__file__).with_name("reference.json")
NEW_TOKENS = 40
# Chosen because their answers hold no near tie. The last two are longer than the original context.
PROMPTS = (
    "hello",
    "ping",
    "status?",
    "When a sensor in the second hall of the plant is wet, then what is to be done?",
    "Suppose that the pump which feeds the tower is too hot, then what is to be done?",
)


def answer(model: Any, words: Any, prompt: str) -> dict[str, Any]:
    """Return the greedy answer to `prompt`, asked as a user."""
    text = f"<|user|>{prompt}<|end|><|assistant|>"
    ids = words(text, add_special_tokens=False, return_tensors="pt").input_ids
    is_short = ids.shape[1] + NEW_TOKENS <= ORIGINAL_CONTEXT
    if not is_short and ids.shape[1] <= ORIGINAL_CONTEXT:
        message = f"{prompt!r} begins in one mode of rotation and ends in the other"
        raise ValueError(message)
    known = set(tokenizer()["model"]["vocab"].values())
    holes = [number for number in range(VOCAB) if number not in known]
    tokens, leads = [], []
    for _ in range(NEW_TOKENS):
        logits = model(ids, use_cache=False).logits[0, -1]
        logits[holes] = -torch.inf
        best, second = logits.topk(2).values.tolist()
        if int(logits.argmax()) in CONTROL.values():
            break
        tokens.append(int(logits.argmax()))
        leads.append(round(best - second, 4))
        ids = torch.cat([ids, torch.tensor([tokens[-1:]])], dim=1)
    return {"prompt": prompt, "tokens": tokens, "leads": leads}


def main() -> None:
    """Write the file."""
    with tempfile.TemporaryDirectory() as directory:
        TinyHf().write(Path(directory))
        model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
        words = transformers.AutoTokenizer.from_pretrained(directory)
        with torch.no_grad():
            answers = [answer(model.eval(), words, prompt) for prompt in PROMPTS]
    FILE.write_text(json.dumps(answers) + "\n")


if __name__ == "__main__":
    main()
