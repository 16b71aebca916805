"""What a topology means: its defaults, its look-ups, and what its classes refuse."""

import math

import pytest

from config import (
    Address,
    Budget,
    Cortex,
    Duration,
    Entitlements,
    Eviction,
    InvalidValueError,
    Key,
    Model,
    Neuron,
    Provider,
    RestartPolicy,
    Tls,
    Topology,
    Window,
    parse,
)

THREE_LINES = """
models = [{ id = "helexa/tiny" }]
[[neurons]]
name = "local"
"""

TWO_HOSTS = """
cortex.host = "gateway"
[[neurons]]
name = "a"
host = "gateway"
[[neurons]]
name = "b"
host = "beast"
endpoint = "http://beast.lan:13131/"
"""


def test_three_lines_declare_a_box() -> None:
    topology = parse(THREE_LINES)
    assert topology.cortex.listen == Address("127.0.0.1", 31313)
    assert topology.cortex.metrics_listen == Address("127.0.0.1", 31314)
    assert topology.cortex.secret_env == "HELEXA_SECRET"
    assert topology.neurons == (Neuron("local", listen=Address("127.0.0.1", 13131)),)
    assert topology.neurons[0].endpoint == "http://127.0.0.1:13131"
    assert topology.models == (Model("helexa/tiny", source="helexa"),)


def test_an_empty_file_is_a_fleet_of_defaults() -> None:
    assert parse("") == Topology()


def test_the_defaults_of_restarts_are_five_in_ten_minutes() -> None:
    section = parse('[actors.device_worker]\nrestart = { max = 3 }\nrecovery = "90s"').actors.device_worker
    assert (section.recovery, section.load_stall) == (90, 300)
    assert section.restart == RestartPolicy(max=3, window=Duration(600), backoff=Duration(1))


def test_only_the_bundled_model_comes_from_the_package_by_default() -> None:
    assert Model("helexa/tiny").source == "helexa"
    assert Model("Qwen/Qwen3-8B").source == "huggingface"
    assert Model("huggingface:Qwen/Qwen3-8B").source == "huggingface:Qwen/Qwen3-8B"
    assert Model("helexa:team/model").source == "helexa:team/model"


def test_an_endpoint_is_the_listener_unless_it_is_given() -> None:
    neurons = parse(TWO_HOSTS).neurons
    assert neurons[0].endpoint == "http://127.0.0.1:13131"
    assert neurons[1].endpoint == "http://beast.lan:13131"
    assert Neuron("x", listen=Address("0.0.0.0", 99)).endpoint == "http://127.0.0.1:99"
    assert Neuron("x", listen=Address("::1", 99)).endpoint == "http://[::1]:99"
    assert Neuron("x", tls=Tls("/c.pem", "/k.pem")).endpoint == "https://127.0.0.1:13131"


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("openai", "https://api.openai.com/v1"),
        ("anthropic", "https://api.anthropic.com/v1"),
        ("ollama", "http://127.0.0.1:11434"),
    ],
)
def test_a_provider_is_the_public_service_of_its_kind_unless_it_is_given(kind: str, url: str) -> None:
    (provider,) = parse(f"[[providers]]\nname = 'p'\nkind = '{kind}'").providers
    assert provider.base_url == url
    assert provider.api_key_env is None


def test_a_key_books_to_an_account_of_its_own_name() -> None:
    assert Key("ci", key_env="CI").account == "ci"
    assert Key("ci", key_env="CI").window == Window("balance")


def test_a_hard_cap_is_one_budget_of_tokens_before_the_others() -> None:
    key = Key("ci", key_env="CI", hard_cap=5, window=Window("rolling", Duration(60)), budgets=(Budget(usd=2.0),))
    assert key.all_budgets == (Budget(tokens=5, per=Duration(60)), Budget(usd=2.0))
    assert [each.unit for each in (*key.all_budgets, Budget(requests=0))] == ["tokens", "usd", "requests"]
    assert Key("ci", key_env="CI").all_budgets == ()


def test_a_hash_of_a_key_stays_out_of_logs() -> None:
    assert "sha256" not in repr(Key("ci", key_hash="sha256:" + "0" * 64))


def test_hosts_pick_their_processes() -> None:
    topology = parse(TWO_HOSTS)
    assert topology.hosts == ("gateway", "beast")
    assert [neuron.name for neuron in topology.neurons_on("beast")] == ["b"]
    assert topology.neurons_on("elsewhere") == ()
    assert topology.cortex_on("gateway")
    assert not topology.cortex_on("beast")


def test_one_box_runs_everything_whatever_it_is_called() -> None:
    topology = parse(THREE_LINES)
    assert topology.hosts == ()
    assert topology.cortex_on("anything")
    assert topology.neurons_on("anything") == topology.neurons


def test_names_are_looked_up() -> None:
    topology = Topology(neurons=(Neuron("n"),), models=(Model("m"),), aliases={"x": "m"}, providers=(Provider("p"),))
    assert topology.model("m") is topology.resolve("m") is topology.resolve("x") is topology.models[0]
    assert topology.model("x") is None
    assert topology.resolve("y") is None
    assert topology.neuron("m") is None
    assert topology.provider("n") is None
    assert topology.neuron("n") is topology.neurons[0]
    assert topology.provider("p") is topology.providers[0]


def test_a_model_is_idle_for_its_own_time_or_else_the_fleets() -> None:
    topology = Topology(cortex=Cortex(eviction=Eviction(idle_ttl=Duration(60))))
    assert topology.idle_ttl(Model("m")) == Duration(60)
    (model,) = parse("models = [{ id = 'm', idle_ttl = 'never' }]").models
    assert topology.idle_ttl(model) == math.inf


@pytest.mark.parametrize(
    ("text", "required"),
    [
        ("", False),
        (THREE_LINES, False),
        ("cortex.listen = '0.0.0.0:80'", True),
        ("cortex.metrics_listen = '10.0.0.1:80'", True),
        (THREE_LINES + "listen = '[::]:13131'", True),
        ("entitlements.require_auth = true", True),
        ("entitlements.require_auth = false\ncortex.listen = '0.0.0.0:80'", False),
    ],
)
def test_keys_are_required_where_others_can_connect(text: str, *, required: bool) -> None:
    assert parse(text).auth_required is required


def test_topologies_are_values() -> None:
    assert parse(TWO_HOSTS) == parse(TWO_HOSTS)
    assert len({parse(TWO_HOSTS), parse(TWO_HOSTS), parse("")}) == 2


def test_whole_numbers_stand_for_prices() -> None:
    (model,) = parse("models = [{ id = 'm', cost = { input = 1 } }]").models
    assert model.cost.input == 1.0
    assert isinstance(model.cost.input, float)


def test_the_classes_refuse_what_a_file_could_not_say() -> None:
    with pytest.raises(InvalidValueError, match="is not an id"):
        Model("../etc/passwd")
    with pytest.raises(InvalidValueError, match="is out of range"):
        RestartPolicy(max=-1)
    with pytest.raises(InvalidValueError, match="is missing, and so is key_hash"):
        Entitlements(keys=(Key("k"),))
