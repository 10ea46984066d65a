"""Name the cell in every picture of a folder; python classify_folder.py MODEL FOLDER."""

import sys
from pathlib import Path

import bloodcell_edge
from bloodcell_edge.errors import PictureError

classifier = bloodcell_edge.load_model(sys.argv[1])
for path in sorted(Path(sys.argv[2]).glob("*.jpg")):
    try:
        said = classifier.classify(bloodcell_edge.read_image(path))
    except PictureError as error:
        print(error)
    else:
        print(f"{path.name}: {said.label} ({said.score:.2f})")
