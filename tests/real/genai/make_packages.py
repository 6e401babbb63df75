"""Makes the packages and `references.json` of this directory with onnxruntime-genai's own builder.

The checkpoints are those of `tests/importers/tiny_hf.py`. Made with Python 3.11, onnxruntime-genai
0.18.0, onnxruntime 1.32.0, onnx 1.23.2, onnx_ir 1.1.0, torch 2.13.0 and transformers 5.19.0, which
the tests need none of but onnx and onnxruntime. From the root of the repository:

    PYTHONPATH=. python tests/real/genai/make_packages.py tests/real/genai
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.importers.tiny_hf import ORIGINAL_CONTEXT, TinyHf

# Level 1 multiplies in fp32. The default rounds activations to 8 bits, as the official package
# does; it stores the same, but answers otherwise.
EXACT = "accuracy_level=1"
# Phi-3 rotates otherwise in requests that are longer: one prompt of each kind.
PROMPT_TOKENS = (ORIGINAL_CONTEXT // 3, ORIGINAL_CONTEXT + 7)
NEW_TOKENS = 24
REFERENCES = "references.json"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a package is built from, and how."""

    checkpoint: TinyHf
    precision: str = "int4"
    options: tuple[str, ...] = ()


# Half of a package would be rotary tables, if all had as many positions as the first.
SHORTER = {"max_position_embeddings": 2 * ORIGINAL_CONTEXT}
PHI3 = TinyHf(config=SHORTER)
LLAMA = TinyHf(family="llama", is_tied=False, config=SHORTER)
RECIPES = {
    "phi3-int4": Recipe(checkpoint=TinyHf()),
    # As the official package: a float embedding beside the 4-bit head.
    "phi3-untied": Recipe(
        checkpoint=PHI3, options=("shared_embeddings=false", "block_size=128", EXACT)
    ),
    # Zero points of 4 and of 8 bits.
    "phi3-k-quant": Recipe(
        checkpoint=PHI3, options=("algo_config=k_quant_mixed", "block_size=64", EXACT)
    ),
    "phi3-asymmetric": Recipe(
        checkpoint=PHI3, options=("algo_config=rtn", "is_symmetric=false", EXACT)
    ),
    "phi3-fp32": Recipe(checkpoint=PHI3, precision="fp32"),
    "llama-int4": Recipe(checkpoint=LLAMA, options=("prune_lm_head=true", EXACT)),
    "llama-int8": Recipe(checkpoint=LLAMA, precision="int8", options=(EXACT,)),
}


def build(recipe: Recipe, package: Path, python: str = sys.executable) -> None:
    """Write the checkpoint of `recipe`; build the directory `package` with the builder of `python`.

    Raises:
        CalledProcessError: the builder failed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Path(scratch, "checkpoint")
        checkpoint.mkdir()
        recipe.checkpoint.write(checkpoint)
        command = [python, "-m", "onnxruntime_genai.models.builder"]
        command += ["-i", str(checkpoint), "-o", str(package), "-p", recipe.precision]
        command += ["-e", "cpu", "-c", str(Path(scratch, "cache"))]
        if recipe.options:
            command += ["--extra_options", *recipe.options]
        subprocess.run(command, check=True, capture_output=True)


def answers(package: Path) -> list[dict[str, Any]]:
    """Return what the model answers greedily, and its logits at the first and last new token."""
    runtime = import_module("onnxruntime_genai")  # not in the environment of the tests
    model = runtime.Model(str(package))
    found = []
    for length in PROMPT_TOKENS:
        prompt = [(7 * i * i + 11 * i + 3) % 256 for i in range(length)]
        parameters = runtime.GeneratorParams(model)
        parameters.set_search_options(max_length=length + NEW_TOKENS + 1)
        generator = runtime.Generator(model, parameters)
        generator.append_tokens(prompt)
        logits = [generator.get_logits()[0, -1]]
        tokens = [int(logits[0].argmax())]
        while len(tokens) < NEW_TOKENS:
            generator.append_tokens(tokens[-1:])
            logits.append(generator.get_logits()[0, -1])
            tokens.append(int(logits[-1].argmax()))
        kept = {"first": logits[0], "last": logits[-1]}
        rounded = {name: [float(f"{x:.7g}") for x in row] for name, row in kept.items()}
        found.append({"prompt": prompt, "tokens": tokens, **rounded})
    return found


def store(package: Path, file: Path) -> None:
    """Pack the directory `package` into the new zip `file`, the same for the same content."""
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(package.iterdir()):
            # Without a time, so that what is built again can be compared.
            archive.writestr(zipfile.ZipInfo(path.name), path.read_bytes(), zipfile.ZIP_LZMA)


def main(directory: Path) -> None:
    """Write all packages and their answers into `directory`."""
    references = {}
    for name, recipe in RECIPES.items():
        with tempfile.TemporaryDirectory() as scratch:
            package = Path(scratch, name)
            build(recipe, package)
            store(package, directory / f"{name}.zip")
            references[name] = answers(package)
        sys.stdout.write(f"{name}: {(directory / f'{name}.zip').stat().st_size} bytes\n")
    (directory / REFERENCES).write_text(json.dumps(references, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
