"""The table that `bench` prints, and the numbers it takes."""

import pytest

from edge_agent.cli import bench, main

FIGURES = {
    "model": "tiny",
    "threads": 2,
    "load_s": 0.5,
    "ttft_ms": 120.5,
    "prefill_tok_s": {"128": 900.0, "512": 850.5},
    "decode_tok_s": {"1": 80.0, "8": 300.0},
    "rss_anon_mb": 200,
    "rss_file_mb": 90,
    "peak_rss_mb": 400,
}


def test_the_table_has_a_line_for_every_figure() -> None:
    lines = bench._table(FIGURES).splitlines()

    assert lines[3].split() == ["first", "token", "after", "128", "120.5", "ms"]
    assert lines[-4].split() == ["decode,", "8", "streams", "300.0", "tok/s"]
    assert len(lines) == 11


@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_a_number_below_one_is_refused_by_name(
    number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "--reps", number])

    assert "--reps" in capsys.readouterr().err
