"""What is shipped: from finished runs to bloodcell_edge/model/shipped, with measured figures and a card.

    python benchmarks/ship/ship.py RUN --small RUN --left-out FILE --built-up FILE --ood FILE --timed FILE

RUN is a run folder, converted and proven (`bce convert`, `bce parity`); its pictures must still be there. The files are
what no run knows of itself, as the benchmarks wrote it: another microscope, classes never trained on, latency.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from bloodcell_edge.dataset.asking import Answers, read_questions
from bloodcell_edge.dataset.pictures import LABELS, Picture
from bloodcell_edge.dataset.split import HELD_BACK, TRAIN, Member, load_split
from bloodcell_edge.dataset.tables import read_rows
from bloodcell_edge.errors import DataError
from bloodcell_edge.files import csv_text, read_json, write_bytes, write_text
from bloodcell_edge.model.calibration import NONE
from bloodcell_edge.model.card import as_markdown, sections
from bloodcell_edge.model.choose import DEVICE_FILE, SHIPPED
from bloodcell_edge.model.classifier import Classifier
from bloodcell_edge.model.file import pack, read_model_file
from bloodcell_edge.model.spec import ModelSpec
from bloodcell_edge.runs import RunFolder
from bloodcell_edge.training.backbone import BLOOD_WEIGHTS, save_backbone
from bloodcell_edge.training.kerasmodel import open_keras

if TYPE_CHECKING:
    pass

SMALL_FILE = "bloodcell-small-int8.tflite"
FLOAT_FILE = "bloodcell-float16.tflite"
PREDICTIONS = "predictions.csv"
"""What the shipped int8 file says to each held-back picture: the card's figures can be worked out again from it."""

_CUT = "2"
"""In the column "marked": a cell that the edge cuts, so that it is not evaluated; 1 is any other mark."""
_COLUMNS = ("source", "file", "label", "group", "note", "found", "marked")


@dataclass(frozen=True)
class DataSource:
    """Where training pictures come from, and what must be said of it.

    Attributes:
        folder: name of its folder.
        name: what the card calls it.
        licence: under which it may be used.
        citation: whom to name.
    """

    folder: str
    name: str
    licence: str
    citation: str


SOURCES = (
    DataSource(
        "photos", "BCCD", "MIT", "BCCD: blood cell photographs, Shenggan/BCCD_Dataset and contributors, MIT licence."
    ),
    DataSource(
        "pbc",
        "Barcelona",
        "CC BY 4.0",
        "Acevedo A, Merino A, Alferez S, Molina A, Boldu L, Rodellar J (2020): A dataset for microscopic peripheral "
        "blood cell images for development of automatic recognition systems. Mendeley Data, doi 10.17632/snkd93bnjr.1, "
        "CC BY 4.0. Changed: cropped, resized, used to train these weights.",
    ),
)

RAABIN = DataSource(
    "raabin",
    "Raabin",
    "free access by its authors, no formal licence",
    "Kouzehkanan Z M, Saghari S, Tavakoli S, Rostami P, Abaszadeh M, Mirzadeh F, et al. (2022): A large dataset of "
    "white blood cells containing cell locations and types, along with segmented nuclei and cytoplasm. Sci Rep 12:1123."
    " Changed: cropped, resized, used to train the locator.",
)
"""What the locator learnt from besides `SOURCES`."""

_NAMES = {source.folder: source.name for source in (*SOURCES, RAABIN)}
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)

FAILURES = (
    "Band forms are neutrophils; blasts, reactive lymphocytes and smudge cells were never shown, and can be named.",
    "Cells that touch another are UNIDENTIFIED whatever they are; those of which the picture's edge leaves less than "
    "three quarters are not evaluated.",
    "`bce evaluate DATA --plots DIR` draws the worst mistakes on your own labelled pictures.",
)

CHOICES = (
    "The length of training, the background's share and the coverage that the threshold must leave were chosen looking "
    "at pictures held back in earlier draws of this split, many of them held back here too: the figures on the same "
    "microscopes flatter by a little.",
    "Light and augmentation were chosen by leaving one source out, on subsets of the pictures that the table of "
    "another microscope is of: that table flatters too. A third microscope has not been seen.",
)

LABEL_ISSUES = (
    "39 of the 75 BCCD photographs labelled EOSINOPHIL look like neutrophils (no red granules); they are noted in the "
    "data and not trained on, but count in the held-back figures with the label that they have.",
    "One BCCD cell is labelled LYMPHOCYTE on one photograph and MONOCYTE on another; neither is trained on.",
)


def own_figures(answers: Answers, spec: ModelSpec) -> dict[str, Any]:
    """The figures of `bce evaluate` on the pictures of the labels, and how many of the others are rejected."""
    known = answers.truth(spec.labels) != NONE
    ours, others = answers.rows(known), answers.rows(~known)
    named = others.named(spec.reject_threshold)
    labels = [picture.label or "" for picture in others.pictures]
    by_class = {label: float((~named[[one == label for one in labels]]).mean()) for label in sorted(set(labels))}
    unknown = {"n": len(named), "rejected": int((~named).sum()), "by_class": by_class}
    return {**ours.figures(spec).as_json(), "unknown": unknown}


def by_source(answers: Answers, spec: ModelSpec) -> list[dict[str, Any]]:
    """Figures of each source alone, and of its pictures whose label has no note."""
    names = [source_of(picture).name for picture in answers.pictures]
    plain = np.array([not picture.note for picture in answers.pictures])
    kept = ("n", "accuracy", "accuracy_interval", "balanced_accuracy", "coverage")
    found = []
    for name in dict.fromkeys(names):
        own = np.array([one == name for one in names])
        parts = {name: own} if plain[own].all() else {name: own, f"{name}, no note on the label": own & plain}
        for what, rows in parts.items():
            figures = own_figures(answers.rows(rows), spec)
            found.append({"source": what, **{key: figures[key] for key in kept}})
    return found


def as_csv(answers: Answers, labels: Sequence[str]) -> str:
    """A row a picture; scores as the file gave them, empty where there was no cell."""
    rows = []
    for picture, scores, found, marked, cut in zip(
        answers.pictures, answers.scores, answers.found, answers.marked, answers.cut, strict=True
    ):
        said = [f"{score:.8f}" for score in scores] if found else [""] * len(labels)
        source = source_of(picture)
        name = Path(picture.file).name
        about = (source.folder, name, picture.label, below_source(picture.group or ""), picture.note)
        rows.append((*about, int(found), _CUT if cut else int(marked), *said))
    return csv_text((*_COLUMNS, *labels), rows)


def load_predictions(path: Path, labels: Sequence[str]) -> Answers:
    """Read what `as_csv` wrote."""
    rows = read_rows(path, (*_COLUMNS, *labels))
    pictures = tuple(
        Picture(Path(row["file"]), row["file"], row["label"], row["group"], note=row["note"], source=row["source"])
        for row in rows
    )
    scores = np.array([[float(row[label] or "nan") for label in labels] for row in rows], np.float32)
    found = np.array([row["found"] == "1" for row in rows], np.bool_)
    marked = np.array([row["marked"] != "0" for row in rows], np.bool_)
    return Answers(pictures, scores, found, marked, np.array([row["marked"] == _CUT for row in rows], np.bool_))


def source_of(picture: Picture) -> DataSource:
    """Which of `SOURCES` a picture is from, by its folder or its name.

    Raises:
        DataError: none of them.
    """
    for source in SOURCES:
        if source.folder in (picture.source, *picture.path.parts):
            return source
    message = f"{picture.path}: of no source that may be shipped; expected a folder {[one.folder for one in SOURCES]}"
    raise DataError(message)


def below_source(name: str) -> str:
    """A file's name from the folder of its source on: where the data lay on one machine is nobody's business."""
    parts = Path(name).parts
    starts = [place for place, part in enumerate(parts) if part in _NAMES]
    return "/".join(parts[starts[0] :]) if starts else name


def ask(file: Path, pictures: Sequence[Picture]) -> Answers:
    """What a file says to pictures, from the files on.

    Raises:
        DataError: one cannot be read.
    """
    classifier = Classifier.open(file)
    questions = read_questions(pictures, [classifier.spec.shown_as])
    if questions.unreadable:
        bad = questions.unreadable[0]
        message = f"{bad.file}: cannot be read any more ({bad.error}); ship from the machine that trained"
        raise DataError(message)
    return questions.ask(classifier)


def counts(rows: Sequence[Member], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Pictures and photographs of each source, class and side."""
    return [
        {
            "name": source.name,
            "licence": source.licence,
            "citation": source.citation,
            "counts": {label: [_count(rows, source, label, side) for side in (TRAIN, HELD_BACK)] for label in labels},
        }
        for source in SOURCES
    ]


def _count(rows: Sequence[Member], source: DataSource, label: str, side: str) -> tuple[int, int]:
    own = [row for row in rows if (source_of(row.picture), row.picture.label, row.split) == (source, label, side)]
    return len(own), len({row.picture.group for row in own})


def sealed(file: Path, name: str, answers: Answers, card: Mapping[str, Any]) -> bytes:
    """A converted file under a name, with the figures of its own answers, and its card."""
    model = read_model_file(file)
    spec = model.spec
    kept = {key: spec.figures[key] for key in ("calibration", "rejection") if key in spec.figures}
    own = {**own_figures(answers, spec), "by_source": by_source(answers, spec), "target": spec.target, **kept}
    attribution = tuple(source.citation for source in SOURCES)
    chosen = tuple({**one, "file": below_source(one["file"])} for one in spec.representative)
    named = spec.with_(name=name, figures=own, card=card, attribution=attribution, representative=chosen)
    return pack(model.flatbuffer, named, model.locator)


def readme(files: Sequence[Path]) -> str:
    """model/shipped/README.md: what is here, and the card of each int8 file."""
    blocks = [_HEAD]
    for file in files:
        spec = read_model_file(file).spec
        blocks += [f"## {file.name}", "\n".join(_facts(file, spec)), as_markdown(sections(spec))]
    blocks.append(_TAIL)
    return "\n\n".join(blocks) + "\n"


def _facts(file: Path, spec: ModelSpec) -> Iterator[str]:
    training, parity = spec.training, spec.parity
    yield f"- {file.stat().st_size:,} bytes, sha256 of content `{spec.sha256}`"
    yield (
        f"- input {spec.input_size[0]} x {spec.input_size[1]} RGB 0..255, view {spec.view} (crop {spec.crop_um:g} um, "
        f"light {spec.light}); runs on TFLite {spec.min_runtime} and later"
    )
    yield (
        f"- recipe {training['recipe']}, {training['backbone']} {training['alpha']:g}, from {training['weights']}, "
        f"seed {training['seed']}, bce {spec.bce_version}, commit {spec.card['commit']}"
    )
    if parity:
        yield (
            f"- parity with Keras on {parity['n']} held-back pictures: accuracy drop {parity['accuracy_drop']:+.2f} "
            f"points, agreement {parity['agreement']:.2f} %"
        )


_HEAD = """# The shipped models

**Research use only, not for diagnosis.** They name a white blood cell on a Romanowsky-stained smear, seen through an
oil immersion lens: eosinophil, lymphocyte, monocyte, neutrophil, or UNIDENTIFIED. Every figure below stands in the
file that it is about (`bce info`) and was measured on it, on photographs that it was not trained on; the table of the
int8 file can be worked out again from `predictions.csv`. `make ship` makes them again.

| file | what it is for |
| --- | --- |
| `bloodcell-int8.tflite` | the default of `bce run` and `bce classify` |
| `bloodcell-float16.tflite` | the same network in half precision |
| `bloodcell-small-int8.tflite` | for slow devices |
| `locator.tflite` | finds the cells: each of the files above carries it, too |
| `backbone.npz` | what `bce train --weights blood` starts from |
| `predictions.csv` | what `bloodcell-int8.tflite` says to each held-back picture |"""

_TAIL = """## Attribution

The weights were trained on these sets of photographs, and carry their terms with them:

""" + "\n".join(f"- {source.citation}" for source in (*SOURCES, RAABIN))


def _named(folders: Sequence[str]) -> str:
    """Sources by the names of the card."""
    return " and ".join(_NAMES[folder] for folder in folders)


def elsewhere(answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `benchmarks/leave_one_source_out.py`, by the names of the card."""
    kept = ("epochs", "labels", "n", "balanced_accuracy", "accuracy", "accuracy_interval")
    return [
        {
            "trained_on": _named(one["trained_on"]),
            "tested_on": _NAMES[one["tested_on"]],
            **{key: one[key] for key in kept},
        }
        for one in answers
        if one["labels"] == "all" or one["tested_on"] == SOURCES[0].folder  # only those are noted
    ]


def worst_mistakes(answers: Sequence[Mapping[str, Any]]) -> list[str]:
    """The commonest mistake of each direction, in a sentence, where no label is noted."""
    found = []
    for one in answers:
        if one["labels"] == "without notes":
            confusion = np.array(one["confusion"])[:, : len(LABELS)]
            np.fill_diagonal(confusion, 0)
            true, said = np.unravel_index(confusion.argmax(), confusion.shape)
            found.append(
                f"Trained on {_named(one['trained_on'])} alone, {confusion[true, said]} of "
                f"{sum(one['confusion'][true])} {LABELS[true].lower()}s of {_NAMES[one['tested_on']]} are called "
                f"{LABELS[said].lower()}."
            )
    return found


def ingredients(answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same with --ingredients, a row a variant: balanced accuracy where no label is noted, mean over seeds."""
    found = []
    for what in dict.fromkeys(one["what"] for one in answers):
        own = [one for one in answers if one["what"] == what and one["labels"] == "without notes"]
        row: dict[str, Any] = {"what": what}
        for one in own:
            row.setdefault(f"{_named(one['trained_on'])} to {_NAMES[one['tested_on']]}", []).append(
                one["balanced_accuracy"]
            )
        seeds = len({one["seed"] for one in own})
        found.append({key: float(np.mean(value)) if isinstance(value, list) else value for key, value in row.items()})
        found[-1]["seeds"] = seeds
    return found


def unseen_unknown(table: Mapping[str, Any]) -> dict[str, Any]:
    """Of `benchmarks/ood.py --json` the classes that the background has not seen."""
    (row,) = [one for one in table["scores"] if one["score"] == "background, class unseen"]
    return {"kept": 0.95, "mean": row["cells"]["share"], "by_class": row["by_class"]}


def latency(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of `bce benchmark --json`, by the names of the shipped files; what it calls invalid stays out."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for one in found["results"]:
        if one["valid"]:
            rows.setdefault(Path(one["file"]).name, []).append(
                {
                    "machine": found["machine"]["cpu"],
                    "threads": one["threads"],
                    "invoke_ms": one["invoke_ms"]["p50"],
                    "end_to_end_ms": one["end_to_end_ms"]["p50"],
                }
            )
    return [{"file": name, "rows": own} for name, own in rows.items()]


@click.command()
@click.argument("run", type=_FOLDER)
@click.option("--small", type=_FOLDER, help="Run folder of the small variant.")
@click.option("--left-out", type=_FILE, multiple=True, help="Lines of benchmarks/leave_one_source_out.py.")
@click.option("--built-up", type=_FILE, multiple=True, help="The same with --ingredients.")
@click.option("--ood", type=_FILE, help="Of benchmarks/ood.py --json.")
@click.option("--timed", type=_FILE, help="Of bce benchmark --json on files of an earlier shipping.")
@click.option("--commit", required=True, help="Of the code that trained.")
@click.option("--out", type=click.Path(path_type=Path), default=SHIPPED)
def main(
    run: Path,
    small: Path | None,
    left_out: tuple[Path, ...],
    built_up: tuple[Path, ...],
    ood: Path | None,
    timed: Path | None,
    commit: str,
    out: Path,
) -> None:
    """Fill the folder of shipped models from a finished run, its evidence and, where given, a small variant's run."""
    beyond: dict[str, Any] = {"commit": commit}
    if left_out:
        beyond["elsewhere"] = elsewhere(_lines(left_out))
        beyond["failures"] = worst_mistakes(_lines(left_out))
    if built_up:
        beyond["ingredients"] = ingredients(_lines(built_up))
    if ood is not None:
        beyond["unseen_unknown"] = unseen_unknown(read_json(ood))
    times = [] if timed is None else latency(read_json(timed))
    out.mkdir(parents=True, exist_ok=True)
    _ship(RunFolder(run), {DEVICE_FILE: DEVICE_FILE, FLOAT_FILE: FLOAT_FILE}, beyond, times, out)
    carded = [out / DEVICE_FILE]
    if small is not None:
        _ship(RunFolder(small), {DEVICE_FILE: SMALL_FILE}, {"commit": commit}, times, out)
        carded.append(out / SMALL_FILE)
    save_backbone(open_keras(RunFolder(run).model).net, out / BLOOD_WEIGHTS.name)
    write_text(out / "README.md", readme(carded))


def _lines(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Of sources left out: not the summaries, and not what only measures."""
    lines = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines() if line]
    return [line for line in lines if line.get("counts")]


def _ship(
    run: RunFolder, names: Mapping[str, str], beyond: Mapping[str, Any], times: Sequence[Mapping[str, Any]], out: Path
) -> None:
    rows, others = load_split(run.split), load_split(run.unknown) if run.unknown.is_file() else []
    asked = [row.picture for row in (*rows, *others) if row.split == HELD_BACK]
    for made, shipped in names.items():
        labels = read_model_file(run.path / made).spec.labels
        answers = ask(run.path / made, asked)
        unknown = sorted({row.picture.label or "" for row in others})
        card = {
            "sources": counts((*rows, *others), (*labels, *unknown)),
            **beyond,
            "latency": [row for one in times if one["file"] == shipped for row in one["rows"]],
            "failures": (*beyond.get("failures", ()), *FAILURES),
            "choices": CHOICES,
            "label_issues": LABEL_ISSUES,
        }
        name = shipped.rpartition("-")[0]  # without the target
        write_bytes(out / shipped, sealed(run.path / made, name, answers, card))
        if shipped == DEVICE_FILE:
            write_text(out / PREDICTIONS, as_csv(answers, labels))
        click.echo(f"{out / shipped}")


if __name__ == "__main__":
    main()
