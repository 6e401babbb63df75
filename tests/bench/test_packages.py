"""Where our packages for a race are."""

from __future__ import annotations

from pathlib import Path

from tests.bench import names, packages


def test_the_environment_may_name_them(tmp_path: Path) -> None:
    assert packages.large({"EDGE_BENCH_PACKAGE": "/models/large"}) == Path("/models/large")
    assert packages.small_home({"EDGE_BENCH_HOME": "/race"}) == Path("/race")
    assert packages.small_home({"XDG_CACHE_HOME": "/cache"}) == Path("/cache/edge-agent/race")


def test_what_is_not_there_yet_is_missing(tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    large, shipped = packages.missing(environ, tmp_path / "no-peers")
    assert large == packages.large(environ)
    assert large.is_relative_to(tmp_path / "edge-agent" / "random-weights" / "models")
    shipped.mkdir(parents=True)
    assert packages.missing(environ, tmp_path / "no-peers") == (large,)


def test_the_same_weights_in_4_bits_need_a_checkpoint(tmp_path: Path) -> None:
    environ = {"EDGE_BENCH_PACKAGE": "/models/large", "EDGE_BENCH_HOME": str(tmp_path)}
    (tmp_path / "peers" / "smollm2-hf").mkdir(parents=True)
    found = packages.missing(environ, tmp_path / "peers")
    assert [path.name for path in found] == [names.SHIPPED, names.INT4]


def test_daemons_find_the_models_of_all_in_homes_of_their_own(tmp_path: Path) -> None:
    for name in (names.SHIPPED, names.INT4):
        (tmp_path / "models" / name).mkdir(parents=True)
        home = packages.daemon_home(tmp_path, name)
        for _ in range(2):
            packages.share_models(tmp_path, home)
        assert (home / "models" / name).is_dir()
