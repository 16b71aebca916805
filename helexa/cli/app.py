"""The commands. Results go to stdout, progress and errors to stderr; 0 done, 1 failed, 2 wrong usage or topology."""

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from helexa.cli import commands, operate
from helexa.cli.accounts import accounts_app
from helexa.cli.bench import bench_app
from helexa.cli.keys import keys_app
from helexa.cli.operate import Fleet

app = typer.Typer(
    name="helexa",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Self-hosted LLM serving for mismatched GPU boxes.\n\n"
    "One TOML file declares the fleet; [bold]helexa up[/bold] turns it into one endpoint that speaks "
    "OpenAI's and Anthropic's protocols.",
    epilog="Start with: helexa up   (a demo fleet with a small bundled model), then: helexa chat",
    rich_markup_mode="rich",
)
app.add_typer(keys_app)
app.add_typer(accounts_app)
app.add_typer(bench_app)

File = Annotated[Path, typer.Argument(help="The topology file.", show_default=False)]
OptionalFile = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", help="The topology file; without one, the bundled demo fleet.")
]
Url = Annotated[str, typer.Option("--url", envvar="HELEXA_URL", help="The fleet's base URL.", show_default=True)]
ApiKey = Annotated[
    str | None, typer.Option("--key", envvar="HELEXA_API_KEY", help="API key, if the fleet asks for one.")
]
Model = Annotated[str, typer.Argument(help="Model or alias.", show_default=False)]
Node = Annotated[str | None, typer.Option(help="The node it is about.", show_default="wherever it is or fits")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
DEFAULT_URL = "http://127.0.0.1:31313"
DEFAULT_BENCH_URL = "http://127.0.0.1:31315"


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback signature
    if wanted:
        from importlib.metadata import version

        typer.echo(f"helexa {version('helexa')}")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold the options that every command has."""
    del version  # its callback has acted on it


@app.command()
def up(
    file: OptionalFile = None,
    host: Annotated[
        str | None, typer.Option(help="Which host of the file this is.", show_default="this machine's host name")
    ] = None,
    *,
    console: Annotated[
        bool, typer.Option("--console", help="Open the console on it; leaving the console stops the fleet.")
    ] = False,
    lifeline: Annotated[
        bool, typer.Option("--lifeline", hidden=True, help="Given by '--console': to stop when stdin ends.")
    ] = False,
) -> None:
    """Start this host's part of a fleet, and serve until Ctrl-C."""
    from helexa.cli import fleet_child

    if lifeline:
        fleet_child.watch_parent()
    _exit(fleet_child.up_with_console(file, host) if console else commands.up(file, host))


@app.command()
def check(file: File) -> None:
    """Check a topology file: every error at once, nothing is started."""
    _exit(commands.check(file))


@app.command()
def doctor(
    file: OptionalFile = None,
    host: Annotated[
        str | None, typer.Option(help="Which host of the file this is.", show_default="this machine's host name")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Show what helexa sees on this host, what is wrong and how to mend it. Exits with 0 if this host can serve."""
    from helexa.cli.doctor import doctor as examine

    _exit(examine(file, host, as_json=as_json))


@app.command()
def status(url: Url = DEFAULT_URL, key: ApiKey = None, *, as_json: Json = False) -> None:
    """Show nodes, models and actors of a running fleet."""
    _exit(operate.status(Fleet(url, key, as_json)))


@app.command()
def ps(url: Url = DEFAULT_URL, key: ApiKey = None, *, as_json: Json = False) -> None:
    """Show the models that are loaded: where, how much memory they hold, how busy they are."""
    _exit(operate.ps(Fleet(url, key, as_json)))


@app.command()
def load(model: Model, node: Node = None, url: Url = DEFAULT_URL, key: ApiKey = None, *, as_json: Json = False) -> None:
    """Load a model where it fits best, or on one node, and wait until it serves. Ctrl-C gives up the wait only."""
    _exit(operate.load(Fleet(url, key, as_json), model, node))


@app.command()
def unload(
    model: Model, node: Node = None, url: Url = DEFAULT_URL, key: ApiKey = None, *, as_json: Json = False
) -> None:
    """Unload a model once its requests have ended."""
    _exit(operate.unload(Fleet(url, key, as_json), model, node))


@app.command()
def pin(  # noqa: PLR0913 - each is an option of the command
    model: Model,
    node: Node = None,
    url: Url = DEFAULT_URL,
    key: ApiKey = None,
    *,
    off: Annotated[bool, typer.Option("--off", help="No longer keep it.")] = False,
    as_json: Json = False,
) -> None:
    """Keep a model where it is loaded, whatever else needs room and however long nobody asks for it."""
    _exit(operate.pin(Fleet(url, key, as_json), model, node, pinned=not off))


@app.command()
def plan(file: File, url: Url = DEFAULT_URL, key: ApiKey = None, *, as_json: Json = False) -> None:
    """Show what a topology file would change in the running fleet, and where each of its models would fit."""
    _exit(operate.plan(Fleet(url, key, as_json), file))


@app.command()
def chat(
    model: Annotated[str | None, typer.Argument(help="Model or alias.", show_default="the first loaded one")] = None,
    url: Url = DEFAULT_URL,
    key: ApiKey = None,
) -> None:
    """Talk to a model in the terminal. Reads questions line by line, so it works in a pipe as well."""
    _exit(commands.chat(model, url, key))


@app.command()
def console(  # noqa: PLR0913 - each is an option of the command
    url: Url = DEFAULT_URL,
    key: ApiKey = None,
    bench_url: Annotated[
        str, typer.Option(envvar="HELEXA_BENCH_URL", help="The base URL of the benchmarks' API.")
    ] = DEFAULT_BENCH_URL,
    *,
    readonly: Annotated[bool, typer.Option("--readonly", help="Show only: nothing can be changed.")] = False,
    record: Annotated[Path | None, typer.Option(help="Keep what is seen in this file.", metavar="FILE")] = None,
    replay: Annotated[Path | None, typer.Option(help="Show such a file in place of a fleet.", metavar="FILE")] = None,
    speed: Annotated[float, typer.Option(min=0.0625, max=1024, help="How fast a recording runs.")] = 1.0,
    web: Annotated[bool, typer.Option("--web", help="Serve the console to browsers, which change nothing.")] = False,
    web_writable: Annotated[
        bool, typer.Option("--web-writable", help="Whoever can open the page may change the fleet.")
    ] = False,
    web_host: Annotated[str, typer.Option(help="Where the page is served.")] = "127.0.0.1",
    web_port: Annotated[int, typer.Option(min=0, max=65535, help="Likewise; 0: any that is free.")] = 31316,
) -> None:
    """Watch and run a fleet on a full screen: nodes, requests, models, actors, benchmarks, keys, chat, logs."""
    from helexa.cli.console import Wanted, Web
    from helexa.cli.console import console as open_console

    wanted = Wanted(url, key, bench_url, readonly, record, replay, speed)
    _exit(open_console(wanted, Web(web_host, web_port, web_writable) if web else None))


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("topology.toml"),
    *,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> None:
    """Write a commented topology file for this host's hardware."""
    _exit(commands.init(file, force=force))


@app.command()
def neuron(
    file: File,
    name: Annotated[str, typer.Option(help="Which neuron of the file to run.")],
    ready_fd: Annotated[
        int | None, typer.Option(hidden=True, help="Given by 'up': where to say that it serves.")
    ] = None,
) -> None:
    """Run one neuron by itself, for systemd and the like; 'up' runs this host's neurons without being told."""
    _exit(commands.neuron(file, name, ready_fd))


def _exit(code: int) -> NoReturn:
    sys.stdout.flush()
    raise typer.Exit(code)
