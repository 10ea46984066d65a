import pytest

from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.errors import DataError
from bloodcell_edge.imaging.drawn import UM_PER_PX
from bloodcell_edge.training.locator.pieces import by_source, drawn_pieces, is_cut, pieces_of


def test_photographs_give_their_boxes_and_one_scale(boxed_fields):
    """Every listed white cell is certain; the scale is the median of the red cells' boxes, for all of them."""
    pieces = pieces_of(load_data(boxed_fields))

    assert len(pieces) == 16
    assert all(sum(cell.certain for cell in piece.cells) == 1 for piece in pieces)
    assert {piece.red_cell_px for piece in pieces} == {50.0}
    assert not any(piece.aimed for piece in pieces)


def test_pictures_of_one_cell_give_the_one_in_the_middle(single_cells):
    """Its box is found by the rules; the scale is the same for all."""
    pieces = pieces_of(load_data(single_cells))

    assert 8 <= len(pieces) <= 16
    for piece in pieces:
        (cell,) = (one for one in piece.cells if one.certain)
        x, y, width, height = cell.box
        assert x < 75 < x + width
        assert y < 75 < y + height
        assert piece.aimed
        assert piece.kind in ("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL")
    assert len({piece.red_cell_px for piece in pieces}) == 1


def test_a_class_without_cells_teaches_where_none_are(single_cells):
    """Pictures of a class that is said to be empty have no certain cell."""
    pieces = pieces_of(load_data(single_cells), empty=("MONOCYTE",))
    empty = [piece for piece in pieces if piece.kind == "MONOCYTE"]

    assert len(empty) == 4
    assert not any(cell.certain for piece in empty for cell in piece.cells)


def test_boxes_without_red_cells_are_refused(boxed_fields, tmp_path):
    """Without a scale nothing can be laid: the error names the file and what it needs."""
    for file in boxed_fields.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    rows = [row for row in (boxed_fields / "boxes.csv").read_text().splitlines() if "RBC" not in row]
    (tmp_path / "boxes.csv").write_text("\n".join(rows))

    with pytest.raises(DataError, match=r"boxes\.csv: expected 20 boxes of kind RBC or more, found 0"):
        pieces_of(load_data(tmp_path))


def test_drawn_fields_are_exact():
    """Their scale is the drawing's, their cells lie in them; a pyramid falls to small sizes."""
    pieces = drawn_pieces(8)

    assert {piece.red_cell_px for piece in pieces} == {7.5 / UM_PER_PX}
    assert sorted({len(piece.cells) for piece in pieces}) == [0, 1, 2, 3]
    assert min(pieces[0].levels[-1].shape[:2]) <= 60 < min(pieces[0].levels[0].shape[:2])
    assert list(by_source(pieces)) == ["drawn"]


@pytest.mark.parametrize(("box", "cut"), [((3, 3, 10, 10), False), ((2, 3, 10, 10), True), ((85, 3, 13, 10), True)])
def test_hand_drawn_boxes_are_cut_to_two_pixels(box, cut):
    """A box that comes within two pixels of the edge counts as cut."""
    assert is_cut(box, (100, 100)) is cut
