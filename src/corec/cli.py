"""The command line: parse, call, print."""

import io
import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from corec import __version__, listing, pipeline
from corec.batch import Tell, complain, each, planned, progress, told_of
from corec.codecs import jpeg
from corec.errors import CorecError, MissingExtraError
from corec.files import PICTURES, Job, aside, is_folder, read_bytes
from corec.picture import WRITTEN, background_of, read_picture, write_picture
from corec.signals import ending

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

FROM = "from "
"""Before the bytes of what a picture was read from."""
USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
"""typer has no public name for what all of its usage errors have in common."""


def filled(text: str) -> str:
    """A name. An empty one, a variable's that is not set, would stand for the folder one is in."""
    if not text:
        raise typer.BadParameter("the name is empty")
    return text


def named(text: str) -> Path:
    """A path."""
    return Path(filled(text))


Sources = Annotated[list[Path], typer.Argument(metavar="SRC", parser=named, show_default=False)]
Destination = Annotated[str, typer.Option("--output", "-o", metavar="DST", parser=filled, show_default=False)]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what exists.")]
Skip = Annotated[bool, typer.Option("--skip-existing", help="Leave sources out whose output exists.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; its exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be text
    try:
        with ending():
            status = app(arguments, prog_name="corec", standalone_mode=False)
        if sys.stdout:  # there is none where it was closed
            sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except CorecError as error:
        complain(str(error))
        return 1
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # else the reader of our output has gone, and needs no word
            complain(f"{error.filename or 'the output'}: {error.strerror or error}")
        if error.filename is None and sys.stdout:  # the interpreter must not find out again at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except USAGE_ERROR as error:
        complain(f"{error.format_message()} (see --help)")
        return 2


@app.callback(invoke_without_command=True)
def corec(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Pictures as ordinary image files of half the bytes."""
    if version:
        typer.echo(f"corec {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def compress(
    sources: Sources,
    output: Destination,
    codec: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="jpeg, jpeg2000, bpg, heic, webp, avif, jxl, learned. By default DST's."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of `corec models`, or a method, or plain. By default each file's best."),
    ] = None,
    quality: Annotated[
        float | None, typer.Option(metavar="Q", min=0, max=100, help="0 is smallest, 100 best. By default 50.")
    ] = None,
    bpp: Annotated[float | None, typer.Option(metavar="B", min=0, help="At most so many bits per pixel.")] = None,
    size: Annotated[
        int | None, typer.Option("--bytes", metavar="N", min=1, help="At most so many bytes a file.")
    ] = None,
    gray: Annotated[bool, typer.Option("--gray", help="Drop the colours.")] = False,
    background: Annotated[str | None, typer.Option(metavar="COLOR", help="Put behind transparent pixels.")] = None,
    effort: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            max=100,
            help="Rounds that suit a .jpg, .jxl or .corec to its picture. By default 4, above 4 megapixels none.",
        ),
    ] = None,
    force: Force = False,
    skip: Skip = False,
    as_json: Json = False,
) -> None:
    """Write pictures as small files of ordinary formats.

    A .corec file is opened by Corec alone.

    SRC: files, or folders with all pictures in and below them. DST: a file, or for several sources a
    folder, which is made. One of --quality, --bpp and --bytes may say how small.
    """
    if sum(wish is not None for wish in (quality, bpp, size)) > 1:
        raise typer.BadParameter("give one of --quality, --bpp and --bytes")
    if bpp is not None:
        check_rate(bpp)
    told = pipeline.codec_of_model(model) if codec is None else codec
    codec = (codec_by_suffix(sources, output) or "jpeg") if told is None else told
    background_of(background)
    suffixes = pipeline.endings()
    if codec not in suffixes:
        raise typer.BadParameter(f"no codec {codec!r}; there are: {', '.join(suffixes)}")
    suffix = suffixes[codec][0]
    check_name(sources, output)
    if not is_folder(sources, output) and Path(output).suffix.lower() not in suffixes[codec]:
        usual = [suffix] if told else [endings[0] for endings in suffixes.values()]
        raise typer.BadParameter(f"DST must end in {' or '.join(usual)} (a folder in /), and is {output}")

    def work(job: Job, tell: Tell) -> dict[str, Any]:
        source = whole(job.source)
        pipeline.refuse_ours(source)
        picture = read_picture(source, background)
        picture = picture.luma() if gray else picture
        made = pipeline.compress_picture(
            picture, codec=codec, model=model, quality=quality, bpp=bpp, size=size, effort=effort, progress=tell
        )
        with aside(job.target, force) as path:
            path.write_bytes(made.data)
        facts = {"bytes": len(made.data), "bpp": 8 * len(made.data) / (made.width * made.height), "model": made.model}
        facts |= {"codec": made.codec, "setting": made.setting, "runs": made.runs}
        return facts | {"width": made.width, "height": made.height}

    each(planned(sources, output, suffix, PICTURES), work, force, skip, as_json)


@app.command()
def decompress(
    sources: Sources, output: Destination, force: Force = False, skip: Skip = False, as_json: Json = False
) -> None:
    """Restore the pictures of files that `corec compress` wrote.

    SRC: files, or folders with all such files in and below them. DST: a file of any usual picture format,
    or for several sources a folder, which is made; the pictures in it are .png.
    """
    check_picture_name(sources, output)

    def work(job: Job, tell: Tell) -> dict[str, Any]:
        data = read_bytes(job.source)
        told = pipeline.describe(data)
        picture = pipeline.decompress_picture(data, progress=tell)
        with aside(job.target, force) as path:
            write_picture(picture, path)
        return {key: told[key] for key in ("bytes", "bpp", "model", "codec", "width", "height")}

    each(planned(sources, output, ".png", {*chain(*pipeline.endings().values())}), work, force, skip, as_json, FROM)


@app.command()
def restore(
    sources: Sources,
    output: Destination,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="One of `corec models`. By default the one for each file.")
    ] = None,
    force: Force = False,
    skip: Skip = False,
    as_json: Json = False,
) -> None:
    """Remove the coding artefacts of JPEG files.

    They are gray or colour, not CMYK.

    SRC: files, or folders with all such files in and below them. DST: a file of any usual picture format,
    or for several sources a folder, which is made; the pictures in it are .png.
    """
    check_picture_name(sources, output)

    def work(job: Job, tell: Tell) -> dict[str, Any]:
        data = read_bytes(job.source)
        row = pipeline.restorer_of(data, model)
        picture = pipeline.restore_picture(data, model, progress=tell)
        with aside(job.target, force) as path:
            write_picture(picture, path)
        width, height = picture.width, picture.height
        facts = {"bytes": len(data), "bpp": 8 * len(data) / (width * height), "model": row.name, "codec": row.codec}
        return facts | {"width": width, "height": height}

    each(planned(sources, output, ".png", {*jpeg.SUFFIXES}), work, force, skip, as_json, FROM)


@app.command()
def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", parser=named, show_default=False)], as_json: Json = False
) -> None:
    """Say what is in a file that `corec compress` wrote."""
    try:
        told = pipeline.describe(read_bytes(file))
    except CorecError as error:
        raise type(error)(told_of(file, error)) from error
    if as_json:
        typer.echo(json.dumps({"source": str(file)} | told))
    else:
        listing.tell(told)


@app.command("models")
def show_models(as_json: Json = False) -> None:
    """List the models that come with Corec."""
    rows = list(listing.rows())
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row))
    else:
        listing.show(rows)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", parser=named)] = Path("demo"),
    bpp: Annotated[float, typer.Option(metavar="B", min=0, help="Bits per pixel.")] = 0.2,
    force: Force = False,
) -> None:
    """Show a photograph beside plain JPEG at the same bytes."""
    check_rate(bpp)
    with extra("demo"):
        from corec.evaluation.demo import COMPARISON, run_demo
    rows = run_demo(output, bpp, force)
    typer.echo(f"{'':12}{'bytes':>9}{'bpp':>8}{'PSNR':>10}")
    for row in rows:
        typer.echo(f"{row.name:12}{row.size:9,}{row.bpp:8.3f}{row.psnr:7.2f} dB")
    typer.echo(f"See {output / COMPARISON}")


@app.command()
def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", parser=named, show_default=False)],
    gray: Annotated[bool, typer.Option("--gray", help="Compare luma alone.")] = False,
    names: Annotated[
        list[str] | None,
        typer.Option("--models", metavar="NAME", help="Measure these; may be given again. By default Corec's choice."),
    ] = None,
    anchors: Annotated[
        list[str] | None,
        typer.Option("--anchors", metavar="NAME", help="Beside these; may be given again. By default all there are."),
    ] = None,
    match: Annotated[
        list[str] | None,
        typer.Option(metavar="ANCHOR", help="Bytes of jpeg@QUALITY, jpeg2000@BPP, bpg@QP, CODEC@STEP. Repeatable."),
    ] = None,
    rates: Annotated[
        list[float] | None,
        typer.Option("--bpp", metavar="B", help="Bits per pixel; may be given again. By default 0.1 to 1."),
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="NAME", help="Tell gains and BD-rates over this; by default jpeg-best.")
    ] = None,
    paper: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Redo jiang2017, zhao2017, zhao2018 or balle2017, over their test sets."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="REPORT", parser=named, help="Folder to fill.")
    ] = None,
    processes: Annotated[int, typer.Option(metavar="N", min=1, help="Pictures at a time.")] = 1,
    force: Annotated[bool, typer.Option("--force", help="Measure again what REPORT has.")] = False,
) -> None:
    """Compare Corec with other codecs at equal bytes.

    FOLDER: the pictures in and below it. No file is larger than that of --match, or than --bpp allows, for the same
    picture. REPORT gets tables, a plot, a page and every figure; a run that was stopped goes on with what is in it.
    """
    with extra("evaluate"):
        from corec.evaluation import command
    if paper is not None and (names or anchors or match or rates or against or gray):
        raise typer.BadParameter("--paper says itself what is measured: give only FOLDER, -o, --processes and --force")
    if match and rates:
        raise typer.BadParameter("give --match or --bpp, not both")
    with progress(1) as show:
        run = command.Run(output, force, processes, lambda row, done, total: show(row.image, 0, done / total), complain)
        if paper is not None:
            text = command.redo(folder, paper, run)
        else:
            wishes = command.Wishes(folder, gray, names or [], anchors, match or [], rates or [], against)
            text = command.compare(wishes, run)
    typer.echo(text, nl=False)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A file, or a name of Corec's own.")],
    data: Annotated[Path, typer.Option(metavar="FOLDER", parser=named, help="The photographs.", show_default=False)],
    run: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="RUN", parser=named, help="Folder of the run.", show_default=False),
    ],
    minutes: Annotated[float, typer.Option(metavar="M", min=0, help="Stop after so long.")] = float("inf"),
) -> None:
    """Train a model; a run that was stopped goes on where it was."""
    with extra("train"):
        from corec.training import loop
        from corec.training.recipe import read_recipe

    def report(step: int, facts: dict[str, float]) -> None:
        typer.echo(f"step {step}  " + "  ".join(f"{name} {value}" for name, value in facts.items()))

    typer.echo(f"{loop.train(read_recipe(recipe), data, run, minutes, report)} steps done")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", parser=named, show_default=False)],
    name: Annotated[str, typer.Option(metavar="NAME", help="Of the model.", show_default=False)],
    number: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="In its files, of several the first; by default the next free one."),
    ] = None,
    default: Annotated[bool, typer.Option("--default", help="Let compress use it unless told otherwise.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a model: its files can no longer be read.")] = False,
) -> None:
    """Put the model of a training run among those of `corec models`."""
    with extra("train"):
        from corec.training import export as exporter
    for model, given in exporter.export(run, name, number, default, force).items():
        typer.echo(f"{model} is model number {given}")


def check_name(sources: list[Path], output: str) -> None:
    """Refuse a destination that is a file and has nothing but an ending."""
    name = Path(output).name
    if not is_folder(sources, output) and name.startswith(".") and name.count(".") == 1:
        raise typer.BadParameter(f"DST has no name before its ending: {output}")


def check_picture_name(sources: list[Path], output: str) -> None:
    """Refuse a destination that is a file of a kind that is not written, before any work."""
    check_name(sources, output)
    if not is_folder(sources, output) and Path(output).suffix.lower() not in WRITTEN:
        raise typer.BadParameter(f"DST must end in {' or '.join(WRITTEN)} (a folder in /), and is {output}")


def whole(source: Path) -> Path | bytes:
    """A file's path, or all that comes out of a pipe, which can be read only once. Raises FileError."""
    other = os.path.exists(source) and not os.path.isfile(source) and not os.path.isdir(source)
    return read_bytes(source) if other else source


def check_rate(bpp: float) -> None:
    """Refuse bits per pixel that are none."""
    if not 0 < bpp < math.inf:
        raise typer.BadParameter("--bpp must be a number above 0")


def codec_by_suffix(sources: list[Path], output: str) -> str | None:
    """The codec that a destination's name asks for, if it is a file and asks for one."""
    if is_folder(sources, output):
        return None
    suffix = Path(output).suffix.lower()
    return next((name for name, suffixes in pipeline.endings().items() if suffix in suffixes), None)


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Imports that need an extra: without it, MissingExtraError."""
    try:
        yield
    except ImportError as error:
        if (error.name or "corec").startswith("corec"):
            raise
        raise MissingExtraError(f"{error.name} is not installed: pip install 'corec[{name}]'") from error
