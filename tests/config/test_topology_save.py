"""What is written reads back the same, says no more than it has to, and never leaves half a file."""

import math
import stat
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config import (
    DEMO,
    HOMELAB,
    Account,
    ActorSection,
    ActorSettings,
    Address,
    Bench,
    BenchTarget,
    Budget,
    Capability,
    Cortex,
    Cost,
    Duration,
    Entitlements,
    Eviction,
    Hours,
    Key,
    Limits,
    Media,
    Model,
    Neuron,
    PollerSection,
    Provider,
    RestartPolicy,
    Route,
    Scope,
    Size,
    Tls,
    Topology,
    TopologyError,
    Window,
    dumps,
    load,
    parse,
    save,
)

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True)
slugs = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._:@+-]{0,6}(/[A-Za-z0-9_][A-Za-z0-9._:@+-]{0,6}){0,2}", fullmatch=True)
variables = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
patterns = st.from_regex(r"[a-z*?'\"\\ é-]{0,6}[a-z*?]", fullmatch=True)
urls = st.builds("{}://{}.lan:{}".format, st.sampled_from(["http", "https"]), st.just("x"), st.integers(1, 65535))
finite = st.floats(0.001, 1e9).map(Duration)
durations = finite | st.just(Duration(math.inf))
prices = st.floats(0, 1e6)
restarts = st.builds(RestartPolicy, st.integers(0, 100), finite, finite)
actor_sections = st.builds(ActorSection, restarts)
evictions = st.builds(Eviction, st.sampled_from(["lru", "priority"]), durations, st.integers(0, 1000))
hashes = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)
periods = st.floats(1, 366 * 86_400).map(Duration)
windows = st.just(Window()) | st.builds(Window, st.just("rolling"), periods)
spans = st.none() | periods
budgets = (
    st.builds(lambda n, per: Budget(tokens=n, per=per), st.integers(0, 2**63 - 1), spans)
    | st.builds(lambda n, per: Budget(requests=n, per=per), st.integers(0, 2**63 - 1), spans)
    | st.builds(lambda n, per: Budget(usd=n, per=per), st.floats(0, 1e6), spans)
)
budget_lists = st.lists(budgets, max_size=3, unique=True).map(tuple)
certificates = st.none() | st.just(Tls('/etc/a b/"ü".pem', "key.pem"))
scopes: st.SearchStrategy[tuple[Scope, ...]] = st.sampled_from(
    [("inference",), ("fleet:admin",), ("inference", "models:read"), ("audio", "images", "embeddings", "fleet:read")]
)
capabilities: st.SearchStrategy[tuple[Capability, ...]] = st.sampled_from([(), ("tool_call",), ("vision", "reasoning")])


@st.composite
def cortexes(draw: st.DrawFn, host: str | None) -> Cortex:
    return Cortex(
        host=host,
        listen=Address(draw(st.sampled_from(["127.0.0.1", "::1", "0.0.0.0", "localhost"])), draw(st.integers(1, 99))),
        metrics_listen=Address("127.0.0.1", draw(st.integers(100, 199))),
        database=draw(st.sampled_from([Cortex().database, "sqlite:///x.db", "postgresql://db/helexa"])),
        secret_env=draw(variables),
        eviction=draw(evictions),
        max_in_flight=draw(st.integers(1, 10_000)),
        queue_timeout=draw(finite),
        database_away=draw(st.sampled_from(["refuse", "serve"])),
        usage_retention=draw(durations),
        tls=draw(certificates),
        media=Media(draw(st.booleans()), tuple(draw(st.lists(patterns, max_size=2, unique=True)))),
        limits=Limits(body=Size(draw(st.integers(1, 2**40)))),
    )


@st.composite
def neurons(draw: st.DrawFn, name: str, host: str | None, port: int, models: list[str]) -> Neuron:
    devices = draw(st.none() | st.just(("cpu",)) | st.just((f"cuda:{port % 100}", "cpu")))
    preload = draw(st.lists(st.sampled_from(models), unique=True)) if models else []
    listen = Address(draw(st.sampled_from(["127.0.0.1", "0.0.0.0", "::"])), port)
    tls = draw(certificates)
    plain = Neuron(name, host=host, listen=listen, tls=tls, devices=devices, preload=tuple(preload))
    return plain if host is None and draw(st.booleans()) else evolve(plain, endpoint=draw(urls))


@st.composite
def models(draw: st.DrawFn, name: str, pins: tuple[str, ...]) -> Model:
    plain = Model(
        name,
        quant=draw(st.sampled_from([None, "int4", "fp8"])),
        tensor_parallel=draw(st.none() | st.integers(1, 8)),
        min_device_memory=draw(st.none() | st.integers(1, 2**45).map(Size)),
        pinned_on=pins if draw(st.booleans()) else (),
        priority=draw(st.integers(-100, 100)),
        idle_ttl=draw(st.none() | durations),
        capabilities=draw(capabilities),
        cost=Cost(draw(prices), draw(prices)),
    )
    source = draw(
        st.sampled_from([None, "huggingface", "helexa:a/b", "huggingface:a/b/c.gguf", "path:/srv/'a b'/\"ü\""])
    )
    return plain if source is None else evolve(plain, source=source)


@st.composite
def keys(draw: st.DrawFn, index: int) -> Key:
    name = f"{draw(names)}-{index}"
    plain = Key(
        name,
        key_env=f"K{index}" if index % 2 else None,
        key_hash=None if index % 2 else f"{draw(hashes)[:-1]}{index}",
        scopes=draw(scopes),
        hard_cap=draw(st.none() | st.integers(0, 2**63 - 1)),
        window=draw(windows),
        budgets=draw(budget_lists),
        weight=draw(st.integers(1, 1000)),
        max_in_flight=draw(st.none() | st.integers(1, 1000)),
    )
    return evolve(plain, account=draw(slugs)) if draw(st.booleans()) else plain


@st.composite
def providers(draw: st.DrawFn, name: str) -> Provider:
    plain = Provider(
        name, kind=draw(st.sampled_from(["openai", "anthropic", "ollama"])), api_key_env=draw(st.none() | variables)
    )
    return evolve(plain, base_url=draw(urls)) if draw(st.booleans()) else plain


@st.composite
def routes(draw: st.DrawFn, known: list[str]) -> Route:
    chosen = draw(st.lists(st.sampled_from(known), min_size=1, unique=True))
    deny = tuple(draw(st.lists(patterns, max_size=2, unique=True)))
    return Route(draw(patterns), tuple(chosen), deny, cost=Cost(draw(prices), draw(prices)))


@st.composite
def benches(draw: st.DrawFn) -> Bench:
    minutes = draw(st.lists(st.integers(0, 1439), min_size=2, max_size=2, unique=True))
    return Bench(
        interval=draw(durations),
        samples_per_build=draw(st.integers(1, 99)),
        hours=draw(st.none() | st.just(Hours(*minutes))),
        targets=tuple(draw(bench_targets(index)) for index in range(draw(st.integers(0, 2)))),
    )


@st.composite
def bench_targets(draw: st.DrawFn, index: int) -> BenchTarget:
    wanted = tuple(draw(st.lists(slugs, min_size=1, max_size=2, unique=True)))
    return BenchTarget(f"outside.server.{index}", draw(urls), wanted, draw(st.none() | variables))


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """Whole fleets without a contradiction."""
    one_box = draw(st.booleans())
    hosts = st.none() if one_box else names
    ids = draw(st.lists(slugs | st.just("helexa/tiny"), max_size=3, unique=True))
    neuron_names = draw(st.lists(names, max_size=3, unique=True))
    provider_names = draw(st.lists(names, max_size=2, unique=True))
    aliases = draw(
        st.dictionaries(slugs.filter(lambda name: name not in ids), st.sampled_from(ids), max_size=2)
        if ids
        else st.just({})
    )
    host = draw(hosts)
    return Topology(
        cortex=draw(cortexes(host)),
        neurons=tuple(draw(neurons(name, draw(hosts), 13000 + index, ids)) for index, name in enumerate(neuron_names)),
        models=tuple(draw(models(name, tuple(neuron_names))) for name in ids),
        aliases=aliases,
        providers=tuple(draw(providers(name)) for name in provider_names),
        routes=tuple(draw(st.lists(routes(provider_names), max_size=2))) if provider_names else (),
        entitlements=Entitlements(
            draw(st.none() | st.booleans()),
            tuple(draw(keys(index)) for index in range(draw(st.integers(0, 3)))),
            tuple(Account(name, draw(budget_lists)) for name in draw(st.lists(slugs, max_size=2, unique=True))),
            draw(st.none() | st.integers(1, 1000)),
        ),
        bench=draw(st.none() | benches()),
        actors=ActorSettings(
            poller=PollerSection(draw(finite), draw(restarts)),
            router=draw(actor_sections),
            sweeper=draw(actor_sections),
        ),
    )


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(topologies())
def test_every_topology_reads_back_as_it_was(topology: Topology) -> None:
    assert parse(dumps(topology)) == topology


@pytest.mark.parametrize("path", [DEMO, HOMELAB])
def test_the_bundled_files_read_back_as_they_were(path: Path) -> None:
    topology = load(path, env={})
    assert parse(dumps(topology)) == topology


def test_defaults_are_not_written() -> None:
    assert dumps(Topology()) == ""
    topology = Topology(neurons=(Neuron("local"),), models=(Model("helexa/tiny"),))
    assert parse(dumps(topology)) == topology
    assert "".join(dumps(topology).split()) == 'neurons=[{name="local"},]models=[{id="helexa/tiny"},]'


def test_units_are_written_for_people() -> None:
    text = dumps(Topology(models=(Model("m", min_device_memory=Size(24 * 2**30), idle_ttl=Duration(math.inf)),)))
    assert 'min_device_memory = "24GiB"' in text
    assert 'idle_ttl = "never"' in text


def test_a_contradiction_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "topology.toml"
    path.write_text("# as it was")
    with pytest.raises(TopologyError, match=r'aliases.x: there is no model "y"'):
        save(Topology(aliases={"x": "y"}), path)
    assert path.read_text() == "# as it was"


def test_a_saved_file_loads_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "topology.toml"
    homelab = load(HOMELAB, env={})
    save(homelab, path)
    assert load(path, env={}) == homelab
    assert [left.name for left in tmp_path.iterdir()] == ["topology.toml"]


def test_a_new_file_can_be_read_by_all_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "topology.toml"
    save(Topology(), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    path.chmod(0o600)
    save(Topology(), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_readers_see_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """A reader that has the old file open keeps reading it whole: it is replaced, not rewritten."""
    path = tmp_path / "topology.toml"
    path.write_text("# as it was")
    with path.open() as reader:
        save(load(DEMO, env={}), path)
        assert reader.read() == "# as it was"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "link.toml"
    real.write_text("")
    link.symlink_to(real)
    save(load(DEMO, env={}), link)
    assert link.is_symlink()
    assert load(real, env={}) == load(DEMO, env={})


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "taken"
    target.mkdir()
    with pytest.raises(IsADirectoryError):
        save(Topology(), target)
    assert [left.name for left in tmp_path.iterdir()] == ["taken"]
