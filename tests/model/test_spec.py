import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloodcell_edge.errors import MissingFile, SpecError
from bloodcell_edge.imaging.views import VIEWS
from bloodcell_edge.model.spec import RULES_RULER, SPEC_VERSION, Golden, ModelSpec, load_spec, save_spec, spec_from_json

LABELS = ("EOSINOPHIL", "LYMPHOCYTE")
SPEC = ModelSpec("tiny", LABELS, "frame", (96, 128), "int8", 1)

share = st.floats(0, 1)
text = st.text(max_size=20)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
values = st.dictionaries(text, plain, max_size=4)
goldens = st.builds(Golden, st.integers(0, 2**48), text, text, text, st.lists(share, max_size=4).map(tuple))
label = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=12)
specs = st.builds(
    ModelSpec,
    name=text,
    labels=st.lists(label, min_size=1, max_size=6, unique=True).map(tuple),
    view=st.sampled_from(VIEWS),
    crop_um=st.floats(1, 100),
    input_size=st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
    target=text,
    image_version=st.integers(0, 99),
    temperature=st.floats(0.01, 100),
    reject_threshold=st.none() | share,
    training=values,
    figures=values,
    parity=st.none() | values,
    seen=st.dictionaries(text, text, max_size=2),
    representative=st.lists(st.dictionaries(text, text, max_size=2), max_size=3).map(tuple),
    golden=st.lists(goldens, max_size=3).map(tuple),
    attribution=st.lists(text, max_size=3).map(tuple),
    sha256=text,
)


def reread(spec: ModelSpec) -> ModelSpec:
    return spec_from_json(json.loads(json.dumps(spec.as_json(), allow_nan=False)), where="a test")


@given(specs)
def test_a_spec_survives_json(spec):
    """What is written and read again is equal, and so are the bytes that the hash covers."""
    assert reread(spec) == spec
    assert reread(spec).canonical() == spec.canonical()


@given(specs)
def test_the_hash_covers_everything_but_itself(spec):
    """The canonical bytes are JSON of all fields in sorted order without the hash, the same whatever the hash is."""
    read = json.loads(spec.canonical())

    assert list(read) == sorted(set(spec.as_json()) - {"sha256"})
    assert spec.with_(sha256="other").canonical() == spec.canonical()
    assert spec.with_(target=f"{spec.target}x").canonical() != spec.canonical()


def test_numbers_as_keys_do_not_change_the_hash():
    """A key 10 becomes "10" in a file and sorts elsewhere: the bytes under the hash are those of what will be read."""
    spec = SPEC.with_(figures={2: "b", 10: "a"})

    assert reread(spec).canonical() == spec.canonical()


def test_a_file_gives_back_what_was_saved(tmp_path):
    """save_spec and load_spec."""
    spec = SPEC.with_(golden=(Golden(3, "MONOCYTE", "ab", "LYMPHOCYTE", (0.25, 0.75)),), reject_threshold=0.5)
    save_spec(tmp_path / "spec.json", spec)

    assert load_spec(tmp_path / "spec.json") == spec


def test_keys_of_a_later_bce_are_left_out():
    """A spec of the same version with more keys, also inside golden samples, is read without them."""
    spec = SPEC.with_(golden=(Golden(3, "MONOCYTE", "ab", "LYMPHOCYTE", (0.25, 0.75)),))
    written = spec.as_json()
    written["colour_of_the_box"] = "green"
    written["golden"][0]["weather"] = "rain"

    assert spec_from_json(written, where="a test") == spec


def test_a_newer_layout_is_refused():
    """A higher spec_version says what this bce reads, and to upgrade."""
    written = SPEC.as_json() | {"spec_version": SPEC_VERSION + 1, "labels": {"of": "another kind"}}
    with pytest.raises(
        SpecError, match=f"m.tflite: spec version {SPEC_VERSION + 1}, this bce reads up to {SPEC_VERSION}; upgr"
    ):
        spec_from_json(written, where="m.tflite")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"labels": []}, "labels must be different names of one line, found []"),
        ({"labels": ["A", "A"]}, "found ['A', 'A']"),
        ({"labels": ["A", "B\nC"]}, "different names of one line"),
        ({"labels": ["A", ""]}, "different names of one line"),
        ({"labels": ["A", 1]}, "different names of one line"),
        ({"labels": "EOSINOPHIL"}, "labels is str, not a list"),
        ({"view": "side"}, "view must be one of frame, cell, found 'side'"),
        ({"input_size": [96]}, "input_size must be (height, width) in pixels, found (96,)"),
        ({"input_size": [0, 96]}, "found (0, 96)"),
        ({"input_size": ["96", 96]}, "found ('96', 96)"),
        ({"input_size": 96}, "input_size is int, not a list"),
        ({"reject_threshold": 50}, "reject_threshold must be 0 to 1, found 50"),
        ({"reject_threshold": "high"}, "not a spec that this bce understands"),
        ({"golden": [{"seed": 1, "scores": [1]}]}, "drawn"),
        ({"golden": [3]}, "not a spec"),
        ({"golden": {"seed": 1}}, "golden is dict, not a list"),
        ({"spec_version": "one"}, None),
    ],
)
def test_values_that_no_model_can_have(changes, says):
    """Wrong values are told by name with what was found; nothing but SpecError is raised."""
    written = SPEC.as_json() | changes
    if says is None:
        assert spec_from_json(written, where="a test").labels == LABELS
        return
    with pytest.raises(SpecError) as caught:
        spec_from_json(written, where="a test")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["name", "labels", "view", "input_size", "target", "image_version"])
def test_a_missing_key_is_named(key):
    """The six that have no default must be there."""
    written = SPEC.as_json()
    del written[key]
    with pytest.raises(SpecError, match=rf"spec\.json: not a spec that this bce understands \(.*'{key}'"):
        spec_from_json(written, where="spec.json")


@given(plain)
def test_any_json_is_a_spec_or_an_error(value):
    """Other JSON raises SpecError and nothing else."""
    with pytest.raises(SpecError):
        spec_from_json(value, where="a test")


@given(st.sampled_from(sorted(SPEC.as_json())), plain)
def test_any_value_of_any_key_is_a_spec_or_an_error(key, value):
    """A spec with one value of another kind is read, or raises SpecError and nothing else."""
    try:
        spec = spec_from_json(SPEC.as_json() | {key: value}, where="a test")
    except SpecError:
        return
    assert isinstance(spec, ModelSpec)


def test_files_that_are_no_spec(tmp_path):
    """An absent spec.json says what a bare .keras needs; other files say that they are not JSON."""
    with pytest.raises(MissingFile, match=r"spec\.json: no such file; a bare \.keras needs --labels and --view"):
        load_spec(tmp_path / "spec.json")
    for data in (b"", b"{", b"\xff\xfe", b"[1]"):
        (tmp_path / "spec.json").write_bytes(data)
        with pytest.raises(SpecError, match=r"spec\.json: (not JSON|expected a JSON object, found list)"):
            load_spec(tmp_path / "spec.json")


def test_a_spec_of_version_1_shows_crops_as_large_as_in_training():
    """The rules of that time took red cells for smaller than they are; later specs and whole pictures stay."""
    cell = SPEC.with_(view="cell", crop_um=20.0)
    old = cell.with_(spec_version=1)
    assert (old.by_rules, cell.by_rules, SPEC.with_(spec_version=1).by_rules) == (True, False, False)
    assert old.shown_as.crop_um == pytest.approx(20 * RULES_RULER)
    assert cell.shown_as.crop_um == 20
    assert SPEC.with_(spec_version=1).shown_as == SPEC.shown_as
    assert reread(old) == old


def test_a_person_is_told_of_an_older_model_alone():
    """In one line that names it and both sizes."""
    old = SPEC.with_(view="cell", crop_um=20.0, spec_version=1)
    assert old.note.startswith("tiny was made before models carried a locator: ")
    assert f"{20 * RULES_RULER:.1f} µm" in old.note
    assert "20 µm" in old.note
    assert (SPEC.note, SPEC.with_(spec_version=1).note, old.with_locator(None).note) == ("", "", "")


def test_with_a_locator_a_spec_is_of_this_version():
    """Its crops stay as large as they are."""
    old = SPEC.with_(view="cell", crop_um=20.0, spec_version=1)
    new = old.with_locator({"name": "loc"})
    assert (new.spec_version, new.locator, new.shown_as) == (SPEC_VERSION, {"name": "loc"}, old.shown_as)
    assert new.with_locator({"name": "other"}).shown_as == old.shown_as
