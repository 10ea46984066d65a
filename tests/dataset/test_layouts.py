import csv
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from folders import PNG, lay

from bloodcell_edge.dataset.layouts import load_all, load_data
from bloodcell_edge.dataset.pictures import LABELS
from bloodcell_edge.dataset.reading import read_each
from bloodcell_edge.dataset.tables import read_rows
from bloodcell_edge.errors import DataError, MissingFile, NoPictures


def table(path: Path, *rows: str, encoding="utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding=encoding)
    return path


def found(dataset) -> list[tuple[str, str]]:
    return [(picture.file, picture.label) for picture in dataset.pictures]


# One folder per class


def test_class_folders_in_any_case(tmp_path):
    """Folder names may be capitals, small or mixed; pictures are in natural order in a class, other files counted."""
    lay(tmp_path, "NEUTROPHIL/n10.png", "NEUTROPHIL/n9.PNG", "eosinophil/a.jpg", "Monocyte/deep/er/m.tif")
    lay(
        tmp_path,
        "notes.txt",
        "Monocyte/notes.txt",
        "Monocyte/.hidden.png",
        "Monocyte/.cache/x.png",
        ".git/NEUTROPHIL/x.png",
    )
    dataset = load_data(tmp_path)

    assert found(dataset) == [
        ("Monocyte/deep/er/m.tif", "MONOCYTE"),
        ("NEUTROPHIL/n9.PNG", "NEUTROPHIL"),
        ("NEUTROPHIL/n10.png", "NEUTROPHIL"),
        ("eosinophil/a.jpg", "EOSINOPHIL"),
    ]
    assert dataset.skipped == 3
    assert dataset.by_label() == {"EOSINOPHIL": 1, "LYMPHOCYTE": 0, "MONOCYTE": 1, "NEUTROPHIL": 2}
    assert {(picture.group, picture.subset) for picture in dataset.pictures} == {(None, None)}
    assert all(picture.path == tmp_path / picture.file for picture in dataset.pictures)


def test_other_classes_are_unknown(tmp_path):
    """Folders of none of the labels are kept apart under their own names, never among the classes."""
    lay(tmp_path, "NEUTROPHIL/n.png", "Basophil/b.png", "Immature Granulocyte/i.png")
    dataset = load_data(tmp_path)

    assert found(dataset) == [("NEUTROPHIL/n.png", "NEUTROPHIL")]
    assert [picture.label for picture in dataset.unknown] == ["BASOPHIL", "IMMATURE GRANULOCYTE"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Neutrophils", "NEUTROPHIL"),
        ("eosinofil", "EOSINOPHIL"),
        ("LYMPHOCITE", "LYMPHOCYTE"),
        ("monocyte ", "MONOCYTE"),
    ],
)
def test_a_near_miss_is_an_error_with_a_suggestion(tmp_path, name, meant):
    """A folder or CSV label that is a letter or two off is not silently another class."""
    lay(tmp_path / "folders", f"{name}/x.png", "NEUTROPHIL/n.png")
    with pytest.raises(DataError, match=f"{name}: not a class name; did you mean {meant}"):
        load_data(tmp_path / "folders")
    lay(tmp_path / "listed", "x.png")
    table(tmp_path / "listed" / "labels.csv", "file,label", f"x.png,{name.strip()}")
    if name.strip().upper() != meant:
        with pytest.raises(DataError, match=f"x.png has the label '{name}'; did you mean {meant}"):
            load_data(tmp_path / "listed")


@pytest.mark.parametrize("name", ["MYELOCYTE", "BASOPHIL", "ERYTHROBLAST", "IG", "PLATELET", "MONOBLAST", "NORMOBLAST"])
def test_other_cells_are_no_near_miss(tmp_path, name):
    """Names of other blood cells are other classes, not misspelt ones."""
    lay(tmp_path, f"{name}/x.png", "NEUTROPHIL/n.png")

    assert [picture.label for picture in load_data(tmp_path).unknown] == [name]


def test_short_labels_have_no_near_misses(tmp_path):
    """With labels of a letter or three every other short name would be near: they are other classes."""
    lay(tmp_path, "A/a.png", "B/b.png", "C/c.png", "PLT/p.png")
    dataset = load_data(tmp_path, labels=("a", "B", "PLA"))

    assert dataset.labels == ("A", "B", "PLA")
    assert [picture.label for picture in dataset.unknown] == ["C", "PLT"]


def test_no_class_folder_at_all_is_an_error(tmp_path):
    """The error names the classes that were expected and the folders that were found."""
    lay(tmp_path / "some", "cats/x.png", "dogs/y.png")
    with pytest.raises(DataError, match=r"one folder per class \(EOSINOPHIL, .*\), found cats, dogs; or give --labels"):
        load_data(tmp_path / "some")
    lay(tmp_path / "flat", "x.png")
    with pytest.raises(NoPictures, match="found no folder at all"):
        load_data(tmp_path / "flat")


def test_no_picture_is_an_error(tmp_path):
    """Class folders without a picture: the error counts what was skipped and names the suffixes."""
    lay(tmp_path, "NEUTROPHIL/n.gif", "NEUTROPHIL/n.txt")
    with pytest.raises(
        NoPictures, match=r"no picture found \(2 other files skipped\); expected \.bmp, \.jfif, \.jpe, \.jpeg"
    ):
        load_data(tmp_path)


def test_an_absent_folder_is_missing(tmp_path):
    """The error says what belongs there."""
    with pytest.raises(MissingFile, match=r"absent: no such folder or file; expected pictures in one folder per class"):
        load_data(tmp_path / "absent")


def test_labels_are_those_asked_for(tmp_path):
    """--labels changes which folders are classes, and their order."""
    lay(tmp_path, "cat/c.png", "dog/d.png", "NEUTROPHIL/n.png")
    dataset = load_data(tmp_path, labels=("dog", "cat"))

    assert dataset.labels == ("DOG", "CAT")
    assert dataset.by_label() == {"DOG": 1, "CAT": 1}
    assert [picture.label for picture in dataset.unknown] == ["NEUTROPHIL"]


# TRAIN and TEST


KAGGLE = "dataset2-master/dataset2-master/images"


@pytest.fixture
def kaggle(tmp_path):
    """The Kaggle set as it unpacks, with the folders beside it that are something else."""
    lay(tmp_path, f"{KAGGLE}/TRAIN/NEUTROPHIL/_0_1.jpeg", f"{KAGGLE}/TRAIN/EOSINOPHIL/_0_2.jpeg")
    lay(tmp_path, f"{KAGGLE}/TEST/NEUTROPHIL/_1_1.jpeg", f"{KAGGLE}/TEST_SIMPLE/NEUTROPHIL/_2_1.jpeg")
    lay(tmp_path, "dataset-master/dataset-master/JPEGImages/BloodImage_00000.jpg", "dataset-master/labels.csv")
    table(tmp_path / "dataset-master/dataset-master/labels.csv", ",Image,Category", "0,0,NEUTROPHIL")
    table(tmp_path / "dataset2-master/dataset2-master/labels.csv", ",Image,Category", "0,0,NEUTROPHIL")
    return tmp_path


@pytest.mark.parametrize("below", ["", "dataset2-master", "dataset2-master/dataset2-master", KAGGLE])
def test_the_kaggle_set_as_it_unpacks(kaggle, below):
    """From the archive's folder or further down: TRAIN and TEST are found, TEST_SIMPLE and other tables ignored."""
    dataset = load_data(kaggle / below)
    prefix = (Path(KAGGLE).relative_to(below).as_posix() + "/").removeprefix("./")

    assert [(picture.file, picture.subset) for picture in dataset.pictures] == [
        (f"{prefix}TEST/NEUTROPHIL/_1_1.jpeg", "test"),
        (f"{prefix}TRAIN/EOSINOPHIL/_0_2.jpeg", "train"),
        (f"{prefix}TRAIN/NEUTROPHIL/_0_1.jpeg", "train"),
    ]


def test_a_subset_can_be_taken(kaggle):
    """only("train") and only("test") take their folders; where no picture is so marked all are taken."""
    dataset = load_data(kaggle)

    assert dataset.only("train").by_label() == {"EOSINOPHIL": 1, "LYMPHOCYTE": 0, "MONOCYTE": 0, "NEUTROPHIL": 1}
    assert len(dataset.only("test").pictures) == 1
    assert dataset.only("train").only("test") == dataset.only("train")


def test_a_class_may_hold_folders_called_test(tmp_path):
    """Class folders at the top are the layout, whatever lies inside them."""
    lay(tmp_path, "NEUTROPHIL/test/a.png", "NEUTROPHIL/b.png", "MONOCYTE/train/c.png")
    dataset = load_data(tmp_path)

    assert [picture.file for picture in dataset.pictures] == [
        "MONOCYTE/train/c.png",
        "NEUTROPHIL/b.png",
        "NEUTROPHIL/test/a.png",
    ]
    assert {picture.subset for picture in dataset.pictures} == {None}


def test_the_nearest_train_folder_counts(tmp_path):
    """A TRAIN folder deep in the first folder does not hide one nearer in the second."""
    lay(tmp_path, "a/b/c/TRAIN/NEUTROPHIL/far.png", "z/Train/NEUTROPHIL/near.png")

    assert found(load_data(tmp_path)) == [("z/Train/NEUTROPHIL/near.png", "NEUTROPHIL")]


def test_train_folders_in_two_places_are_an_error(tmp_path):
    """Two sets side by side are not silently one of them."""
    lay(tmp_path, "site_a/TRAIN/NEUTROPHIL/x.png", "site_b/TRAIN/NEUTROPHIL/x.png")
    with pytest.raises(DataError, match=r"several places \(.*site_a, .*site_b\); give one of them"):
        load_data(tmp_path)


@pytest.mark.timeout(20)
def test_links_that_go_round_end(tmp_path):
    """Links to parents, to themselves and to nothing do not hang or count twice; a linked class folder is followed."""
    lay(tmp_path / "data", "NEUTROPHIL/n.png", "deep/er/x.txt")
    lay(tmp_path / "elsewhere", "m.png")
    for link, target in (
        ("data/NEUTROPHIL/again", tmp_path / "data"),
        ("data/NEUTROPHIL/self", tmp_path / "data/NEUTROPHIL/self"),
        ("data/deep/round", tmp_path / "data"),
        ("data/deep/er/round", tmp_path / "data/deep"),
        ("data/MONOCYTE", tmp_path / "elsewhere"),
        ("data/NEUTROPHIL/gone.png", tmp_path / "gone.png"),
    ):
        (tmp_path / link).symlink_to(target)
    dataset = load_data(tmp_path / "data")

    assert [picture.file for picture in dataset.pictures] == [
        "MONOCYTE/m.png",
        "NEUTROPHIL/gone.png",
        "NEUTROPHIL/n.png",
    ]
    assert [bad.file for bad in read_each(dataset.pictures, np.mean)[1]] == ["NEUTROPHIL/gone.png"]
    with pytest.raises(DataError, match="found er, round"):
        load_data(tmp_path / "data/deep")


# CSV


def test_a_table_in_the_folder_or_alone(tmp_path):
    """labels.csv in a folder and a CSV given itself are read alike: rows in order, labels in any case, groups kept."""
    lay(tmp_path, "b.png", "sub/a.png", "c.png", "not listed.png")
    path = table(
        tmp_path / "labels.csv",
        "file,label,group,note",
        "b.png,neutrophil,7,",
        "./sub/a.png, Monocyte , 8 ,x",
        "c.png,Basophil,,",
    )

    for dataset in (load_data(tmp_path), load_data(path)):
        assert found(dataset) == [("b.png", "NEUTROPHIL"), ("sub/a.png", "MONOCYTE")]
        assert [picture.group for picture in dataset.pictures] == ["7", "8"]
        assert [(picture.label, picture.group) for picture in dataset.unknown] == [("BASOPHIL", None)]
        assert dataset.root == tmp_path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_table_from_a_spreadsheet(tmp_path, encoding):
    """A byte order mark, blanks in the header, quotes, empty lines and short rows are read as a person would."""
    lay(tmp_path, "a, b.png", "d.png")
    table(
        tmp_path / "labels.csv",
        "file, label ,group",
        '"a, b.png",NEUTROPHIL,1',
        "",
        "d.png,MONOCYTE",
        encoding=encoding,
    )

    assert found(load_data(tmp_path)) == [("a, b.png", "NEUTROPHIL"), ("d.png", "MONOCYTE")]


def test_listed_files_that_are_not_there_are_named(tmp_path):
    """A missing file is unreadable, by name, and the rest go on; when all are missing it is an error that names one."""
    lay(tmp_path, "a.png")
    path = table(tmp_path / "labels.csv", "file,label", "a.png,NEUTROPHIL", "gone.png,MONOCYTE")
    dataset = load_data(path)

    assert found(dataset) == [("a.png", "NEUTROPHIL")]
    assert [bad.file for bad in dataset.unreadable] == ["gone.png"]
    assert "gone.png: no such file, but labels.csv names it" in dataset.unreadable[0].error
    (tmp_path / "a.png").unlink()
    with pytest.raises(NoPictures, match=r"no picture found \(.*a\.png: no such file, but labels\.csv names it\)"):
        load_data(path)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["picture,label", "a.png,NEUTROPHIL"], "expected the columns file,label, found 'picture,label'"),
        (["file:label", "a.png;NEUTROPHIL"], "found 'file:label'"),
        (["file,label", "a.png,"], "picture 1: expected a file and a label, found 'a.png', ''"),
        (
            ["file,label", "a.png,NEUTROPHIL", ",MONOCYTE"],
            "picture 2: expected a file and a label, found '', 'MONOCYTE'",
        ),
    ],
)
def test_a_table_that_does_not_say_what_it_must(tmp_path, rows, says):
    """Missing columns, labels and files are errors that say where and what was found."""
    lay(tmp_path, "a.png")
    path = table(tmp_path / "list.csv", *rows)
    with pytest.raises(DataError) as caught:
        load_data(path)

    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)


def test_a_binary_file_is_no_table(tmp_path):
    """A picture, and UTF-16 text, given as CSV are errors in one line."""
    for name, data in (
        ("a.png", PNG),
        ("wide.csv", "file,label\n".encode("utf-16")),
        ("null.csv", b"file\0,label\n\0"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError) as caught:
            load_data(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_a_table_must_be_there(tmp_path):
    """An absent CSV, and a folder in its place, name the columns that were expected."""
    with pytest.raises(MissingFile, match="expected a CSV with the columns file,group"):
        read_rows(tmp_path / "absent.csv", ("file", "group"))
    with pytest.raises(
        DataError, match=r"cannot be read \(Is a directory\); expected a CSV with the columns file,group"
    ):
        read_rows(tmp_path, ("file", "group"))


# Groups


@pytest.mark.parametrize("place", ["inside", "below", "beside"])
def test_groups_by_a_table(tmp_path, place):
    """--group-by names files relative to DATA, wherever it lies, or relative to itself."""
    data = lay(tmp_path / "data", "NEUTROPHIL/a.png", "MONOCYTE/b.png", "BASOPHIL/c.png")
    where, prefix = {
        "inside": (data / "groups.csv", ""),
        "below": (tmp_path / "other" / "groups.csv", ""),
        "beside": (tmp_path / "groups.csv", "data/"),
    }[place]
    table(where, "file,group", f"{prefix}NEUTROPHIL/a.png,p1", f"./{prefix}MONOCYTE/b.png, p2 ")
    dataset = load_data(data, group_by=where)

    assert [(picture.file, picture.group) for picture in dataset.pictures] == [
        ("MONOCYTE/b.png", "p2"),
        ("NEUTROPHIL/a.png", "p1"),
    ]


def test_groups_replace_those_of_the_table(tmp_path):
    """--group-by has the last word over a group column."""
    lay(tmp_path, "a.png")
    table(tmp_path / "labels.csv", "file,label,group", "a.png,NEUTROPHIL,old")
    table(tmp_path / "groups.csv", "file,group", "a.png,new")

    assert load_data(tmp_path, group_by=tmp_path / "groups.csv").pictures[0].group == "new"


@pytest.mark.parametrize("row", ["NEUTROPHIL/other.png,p1", "NEUTROPHIL/a.png,"])
def test_a_picture_without_a_group_is_an_error(tmp_path, row):
    """One left out, or with an empty group, is counted and named: not all such pictures are one photograph."""
    lay(tmp_path, "NEUTROPHIL/a.png", "NEUTROPHIL/b.png")
    path = table(tmp_path / "groups.csv", "file,group", "NEUTROPHIL/b.png,p2", row)
    with pytest.raises(DataError, match=r"no group for 1 of 2 pictures \(the first: NEUTROPHIL/a\.png\)"):
        load_data(tmp_path, group_by=path)


def test_several_data_stay_apart(tmp_path):
    """Of two DATA files and groups of the same name are told apart; train pictures alone where folders say so."""
    one, two = lay(tmp_path / "one", "a.png"), lay(tmp_path / "two", "a.png")
    three = lay(tmp_path / "three", "TRAIN/MONOCYTE/t.png", "TEST/MONOCYTE/u.png")
    for folder in (one, two):
        table(folder / "labels.csv", "file,label,group", "a.png,NEUTROPHIL,7", "lost.png,NEUTROPHIL,7")
    dataset = load_all([one, two, three], subset="train")

    assert dataset.root == tmp_path
    assert [picture.path for picture in dataset.pictures] == [
        one / "a.png",
        two / "a.png",
        three / "TRAIN/MONOCYTE/t.png",
    ]
    assert len({picture.file for picture in dataset.pictures}) == 3
    assert len({picture.group for picture in dataset.pictures[:2]}) == 2
    assert len(dataset.unreadable) == 2


def test_one_table_of_groups_speaks_of_all_data(tmp_path):
    """A photograph that --group-by finds in two DATA is one group: it may not be split between them."""
    one, two = lay(tmp_path / "one", "NEUTROPHIL/a.png"), lay(tmp_path / "two", "NEUTROPHIL/b.png")
    path = table(tmp_path / "groups.csv", "file,group", "one/NEUTROPHIL/a.png,p1", "two/NEUTROPHIL/b.png,p1")
    dataset = load_all([one, two], group_by=path, subset="train")

    assert [picture.group for picture in dataset.pictures] == ["p1", "p1"]


# Order


# Reading


# Real data


@pytest.mark.shared
def test_the_shared_sets_are_read(shared):
    """The three sets beside the clone have the pictures, classes and groups that their README counts."""
    cells, photos, barcelona = (load_data(shared / "data" / name) for name in ("blood-cells", "photos", "pbc"))
    with (shared / "data/blood-cells/sources.csv").open() as stream:
        groups = {row["file"]: row["group"] for row in csv.DictReader(stream)}
    grouped = load_data(shared / "data/blood-cells", group_by=shared / "data/blood-cells/sources.csv")

    assert cells.by_label() == dict.fromkeys(LABELS, 750)
    assert {picture.subset for picture in cells.pictures} == {"train"}
    assert [picture.group for picture in grouped.pictures] == [groups[picture.file] for picture in cells.pictures]
    assert photos.by_label() == {"EOSINOPHIL": 75, "LYMPHOCYTE": 27, "MONOCYTE": 16, "NEUTROPHIL": 159}
    assert len(photos.unknown) == 3
    assert barcelona.by_label() == dict.fromkeys(LABELS, 900)
    assert {picture.label for picture in barcelona.unknown} == {"BASOPHIL", "ERYTHROBLAST", "IG", "PLATELET"}


def test_training_on_a_folder_that_holds_only_test_is_refused(tmp_path):
    """TEST is never trained on because TRAIN is missing; naming the TEST folder itself is a decision, and goes."""
    lay(tmp_path, "TEST/NEUTROPHIL/1.png", "TEST/MONOCYTE/1.png")
    with pytest.raises(DataError, match="no TRAIN folder"):
        load_all([tmp_path], subset="train")
    assert len(load_all([tmp_path / "TEST"], subset="train").pictures) == 2


def test_a_scale_in_the_table_goes_with_the_picture(tmp_path):
    """Column um_per_px is read where it is filled in, and None where it is not."""
    lay(tmp_path, "a.png", "b.png")
    table(tmp_path / "labels.csv", "file,label,um_per_px", "a.png,NEUTROPHIL,0.125", "b.png,MONOCYTE, ")
    assert [picture.um_per_px for picture in load_data(tmp_path).pictures] == [0.125, None]


@pytest.mark.parametrize("scale", ["fine", "0", "-0.1", "inf", "nan"])
def test_a_scale_that_is_none_is_refused(tmp_path, scale):
    """What is no positive number is an error that names table, picture and value."""
    lay(tmp_path, "a.png")
    table(tmp_path / "labels.csv", "file,label,um_per_px", f"a.png,NEUTROPHIL,{scale}")
    with pytest.raises(DataError, match=rf"labels\.csv: a\.png has um_per_px '{scale}'; expected a positive number"):
        load_data(tmp_path)


def test_files_are_found_as_other_machines_write_their_names(tmp_path):
    """Backslashes, and letters with their accents apart; a decimal comma; and what was understood is kept."""
    lay(tmp_path, "sub/l.png", "mär.png")
    table = tmp_path / "t.csv"
    decomposed = unicodedata.normalize("NFD", "mär.png")
    table.write_text(f"file;label;um_per_px\nsub\\l.png;LYMPHOCYTE;0,1\n{decomposed};MONOCYTE;\n", encoding="utf-8")
    dataset = load_data(table)
    assert [(one.file, one.label, one.um_per_px) for one in dataset.pictures] == [
        ("sub/l.png", "LYMPHOCYTE", 0.1),
        ("mär.png", "MONOCYTE", None),
    ]
    assert dataset.notes == (f"{table}: read with semicolons",)


@pytest.mark.parametrize("name", ["val", "Valid", "VALIDATION"])
def test_validation_is_a_side(tmp_path, name):
    """By any of its names; a model is measured on test, else on it."""
    lay(tmp_path, "Train/NEUTROPHIL/1.png", f"{name}/NEUTROPHIL/2.png")
    dataset = load_data(tmp_path)
    assert [one.subset for one in dataset.pictures] == ["train", "val"]
    held_out, side = dataset.held_out()
    assert ([one.subset for one in held_out.pictures], side) == (["val"], "val")
    lay(tmp_path, "test/NEUTROPHIL/3.png")
    assert load_data(tmp_path).held_out()[1] == "test"
