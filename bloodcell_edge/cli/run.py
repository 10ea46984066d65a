"""``bce run``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .terminal.options import PATH, say_choice
from .terminal.run_options import check_scale, choose_trigger, default_slide, folder_of, parse_limits
from .terminal.screen import differential_text, more_fields, open_screen, refusals_text, say_end, say_notice
from .terminal.signals import asked_to_finish

if TYPE_CHECKING:
    from ..slide.run import Outcome


@click.command()
@click.option("--source", default="camera:0", metavar="URL", help="folder:DIR, camera:0, http://..., fake:smear, ...")
@click.option("--model", help="A .tflite, a run folder, or a shipped model.  [default: shipped, else runs/latest]")
@click.option("--slide", metavar="NAME", help="Slide name.  [default: the folder's name, else UTC now]")
@click.option("--store", "store_file", type=PATH, default=Path("bloodcell.sqlite"), help="Results file.")
@click.option("--watch", is_flag=True, help="Folders: go on with files that arrive.")
@click.option("--every", type=click.FloatRange(0), metavar="S", help="Take a frame every S seconds; 0: each one.")
@click.option("--on-change", is_flag=True, help="Take each field once, when the stage rests.  [default for cameras]")
@click.option("--on-key", is_flag=True, help="Take a field when a key is pressed.")
@click.option("--cells", type=click.IntRange(1), help="Identified cells that the slide is to have.  [default: 200]")
@click.option(
    "--overlap/--no-overlap",
    default=None,
    help="Fields may show the same cells: count each once.  [default: cameras do, folders do not]",
)
@click.option("--give-up-after", type=click.FloatRange(0.1), metavar="S", help="End when a camera is lost so long.")
@click.option("--um-per-px", type=float, callback=check_scale, help="Scale.  [default: from the red cells]")
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=N",
    help="Quality gate: focus, dark, bright, cast, empty, repeated, colour, swapped, negative. Fields in the store are "
    "not judged again.",
)
@click.option("--crop-mb", type=click.IntRange(0), default=200, help="Most space for cell pictures, MB; 0 keeps none.")
@click.option("--threads", type=click.IntRange(1), help="Cores for one cell.  [default: the fastest, by trying]")
@click.option("--json", "as_json", is_flag=True, help="A JSON line a field, also on a terminal.")
def run(
    source: str,
    model: str | None,
    slide: str | None,
    store_file: Path,
    watch: bool,
    every: float | None,
    on_change: bool,
    on_key: bool,
    cells: int | None,
    overlap: bool | None,
    give_up_after: float | None,
    um_per_px: float | None,
    limits: tuple[str, ...],
    crop_mb: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Count white cells in images and save the results.

    The same picture on the same slide is counted once, so a run that was interrupted goes on where it was. A camera
    stops at --cells identified cells, a folder at its end; the number belongs to the slide, and its report goes by it.
    Away from a terminal each field is a JSON line on stdout.

    Ctrl-C and SIGTERM finish the field in hand and print the count, exit code 130; a second one leaves at once. A
    file that cannot be read is a line on stderr, and the exit code is 1.

    \b
    Example:
      bce run --source folder:slides/A12
      bce run --source camera:0 --slide A12 --cells 400
    """
    from ..capture import open_source
    from ..model.choose import choose_model
    from ..model.classifier import Classifier
    from ..slide.origin import note_folder, note_target, refuse_another_folder
    from ..slide.run import Settings, count_slide
    from ..slide.store import Store

    trigger = choose_trigger(source, every, on_change=on_change, on_key=on_key)
    gate = parse_limits(limits)
    with asked_to_finish() as stop, open_source(source, watch=watch, give_up_after_s=give_up_after) as fields:
        path = say_choice(choose_model(model))
        classifier = Classifier.open(path, threads=threads)
        with (
            closing(open_screen(as_json=as_json)) as screen,
            Store.open(store_file, on_notice=screen.say, crop_budget=crop_mb * 1_000_000) as store,
        ):
            if classifier.spec.note:
                screen.say(f"note: {classifier.spec.note}")
            if classifier.spec.view == "frame":
                screen.say("this model takes whole pictures: one result a picture, not countable as cells")
            folder, done = folder_of(source), None
            name = slide or default_slide(folder)
            if folder is not None and slide is None:
                refuse_another_folder(store, name, folder)
            reading = store.reading(name, classifier.spec, file=str(path))
            if folder is not None:
                note_folder(store, reading, folder)
            target = note_target(store, reading, cells)
            screen.aim(target)
            settings = Settings(target, overlap, um_per_px, gate, crops=crop_mb > 0)
            try:
                done = count_slide(
                    fields,
                    classifier,
                    store,
                    slide=name,
                    settings=settings,
                    trigger=trigger and trigger(),
                    on_field=screen.field,
                    on_notice=lambda notice: say_notice(screen, notice),
                    stop=stop,
                )
            finally:
                screen.close()
                if done is not None:
                    say_end(done, screen, target)
                if refused := store.refusals(reading):
                    screen.say(refusals_text(refused))
                if reading in store.readings():
                    count = store.differential(reading)
                    screen.result(f"slide {reading.slide}, store {store_file}\n{differential_text(count)}")
                    if more := more_fields(count, store.used(reading)):
                        screen.say(more)
                elif done is not None:
                    screen.say("no field was taken in")
    leave(done)


def leave(done: Outcome) -> None:
    """End with the exit code that is due."""
    from ..errors import PictureError
    from . import EXIT_INTERRUPTED

    if done.ended == "stop":
        raise click.exceptions.Exit(EXIT_INTERRUPTED)
    if done.unreadable:
        message = f"{done.unreadable} of the files could not be read; their lines say why"
        raise PictureError(message)
