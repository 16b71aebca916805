"""``helexa bench``: its options. 0 done, 1 failed, 2 wrong usage or topology, 3 something has become worse."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from helexa.cli.bench import options as o
from helexa.cli.bench.output import end_with
from helexa.cli.manage import Json, Url

_SMALLEST = "5%"
Suite = Literal["quick", "standard", "full"]

bench_app = typer.Typer(
    name="bench",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Measure models on fleets and other servers, keep the figures, and tell what has changed.\n\n"
    "Exits with 0 if all is well, 1 if something could not be measured, 2 for wrong usage, and 3 if something has "
    "become worse.",
)


@bench_app.command()
def run(  # noqa: PLR0913, PLR0917 - each is an option of the command
    context: typer.Context,
    url: Url = o.DEFAULT_URL,
    key: o.ApiKey = None,
    name: Annotated[Any, typer.Option("--name", metavar="NAME", parser=o.called, help="What to call it.")] = "fleet",
    topology: o.Neurons = None,
    target: o.Targets = None,
    target_key_env: o.TargetKeys = None,
    model: o.Models = None,
    scenario: o.Scenarios = None,
    suite: Annotated[Suite | None, typer.Option(help="Which scenarios.", show_default="quick")] = None,
    rounds: o.Rounds = 5,
    label: o.Label = None,
    against: o.Against = None,
    smallest: o.Smallest = _SMALLEST,
    database: o.Database = o.DEFAULT_DATABASE,
    *,
    no_save: Annotated[bool, typer.Option("--no-save", help="Keep nothing of it.")] = False,
    as_json: Json = False,
) -> None:
    """Measure, show medians with their intervals, keep them, and compare them with the last ones.

    Without --target and --topology it is the fleet of --url that is measured. Models are those that are loaded.
    """
    from helexa.cli.bench.running import Plan
    from helexa.cli.bench.running import run as measure
    from helexa.cli.bench.ways import Wanted

    alone = topology is None and not target
    fleet = url if alone or _typed(context, "url") else None
    wanted = Wanted(fleet, key, name, topology, target or (), dict(target_key_env or ()))
    plan = Plan(
        wanted,
        model or (),
        o.all_of(scenario, suite),
        rounds,
        label or "",
        database,
        against,
        smallest,
        save=not no_save,
        as_json=as_json,
    )
    end_with(partial(measure, plan))


def _typed(context: typer.Context, parameter: str) -> bool:
    """Whether it was given on the command line; one that the environment gives is what is meant without others."""
    source = context.get_parameter_source(parameter)
    return source is not None and source.name == "COMMANDLINE"


@bench_app.command()
def compare(  # noqa: PLR0913 - each is an option of the command
    before: o.Before,
    after: o.After,
    smallest: o.Smallest = _SMALLEST,
    form: Annotated[Literal["table", "markdown"], typer.Option("--format", help="As what.")] = "table",
    database: o.Database = o.DEFAULT_DATABASE,
    *,
    as_json: Json = False,
) -> None:
    """Compare two batches, labels, builds, targets or exported files, as in: helexa bench compare previous last."""
    from helexa.cli.bench import reading

    end_with(partial(reading.compare, database, (before, after), smallest, "json" if as_json else form))


@bench_app.command()
def report(  # noqa: PLR0913, PLR0917 - each is an option of the command
    ref: o.OptionalRef = None,
    form: Annotated[
        Literal["table", "markdown", "html"] | None,
        typer.Option("--format", help="As what.", show_default="by the file's name, else table"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to.", show_default="stdout")
    ] = None,
    since: o.Since = None,
    target: o.OnlyTargets = None,
    model: o.OnlyModels = None,
    scenario: o.OnlyScenarios = None,
    database: o.Database = o.DEFAULT_DATABASE,
) -> None:
    """Show the newest figures of everything, or write a page with plots of all that is kept."""
    from helexa.cli.bench import reading

    where = reading.Where(database, target or (), model or (), scenario or (), since)
    end_with(partial(reading.report, where, ref, form, output))


@bench_app.command()
def runs(  # noqa: PLR0913, PLR0917 - each is an option of the command
    ref: o.OptionalRef = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Batches to list.")] = 20,
    since: o.Since = None,
    target: o.OnlyTargets = None,
    model: o.OnlyModels = None,
    scenario: o.OnlyScenarios = None,
    database: o.Database = o.DEFAULT_DATABASE,
    *,
    as_json: Json = False,
) -> None:
    """List the batches that are kept, or the runs of one."""
    from helexa.cli.bench import reading

    where = reading.Where(database, target or (), model or (), scenario or (), since)
    end_with(partial(reading.runs, where, ref, limit, as_json=as_json))


@bench_app.command()
def export(  # noqa: PLR0913, PLR0917 - each is an option of the command
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to; - for stdout.", show_default=False)],
    ref: o.OptionalRef = None,
    form: Annotated[
        Literal["csv", "json", "parquet"] | None,
        typer.Option("--format", help="As what.", show_default="by the file's name"),
    ] = None,
    since: o.Since = None,
    target: o.OnlyTargets = None,
    model: o.OnlyModels = None,
    scenario: o.OnlyScenarios = None,
    database: o.Database = o.DEFAULT_DATABASE,
) -> None:
    """Write runs with all their samples to a file; JSON can be read again by 'import' and 'compare'."""
    from helexa.cli.bench import reading

    where = reading.Where(database, target or (), model or (), scenario or (), since)
    end_with(partial(reading.export, where, ref, file, form))


@bench_app.command("import")
def bring_in(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Exported JSON.", show_default=False)],
    database: o.Database = o.DEFAULT_DATABASE,
) -> None:
    """Take exported runs into the database; those that are there already stay as they are."""
    from helexa.cli.bench import reading

    end_with(partial(reading.bring_in, database, files))


@bench_app.command()
def scenarios(*, as_json: Json = False) -> None:
    """List the scenarios, their parameters, and the suites."""
    from helexa.cli.bench import reading

    end_with(partial(reading.scenarios, as_json=as_json))


@bench_app.command()
def serve(
    file: Annotated[
        Path | None, typer.Argument(help="The topology file.", show_default="the bundled demo fleet")
    ] = None,
) -> None:
    """Measure whatever has not been measured whenever nobody needs it, and serve the figures, until Ctrl-C."""
    from helexa.cli import commands

    end_with(partial(commands.bench_serve, file))
