"""Name the white cells in every picture of a folder; python classify_folder.py MODEL FOLDER."""

import sys
from pathlib import Path

import bloodcell_edge

classifier = bloodcell_edge.load_model(sys.argv[1])
for path in sorted(Path(sys.argv[2]).glob("*.jpg")):
    try:
        cells = classifier.classify(bloodcell_edge.read_image(path))
    except bloodcell_edge.PictureError as error:
        print(error)
    else:
        print(f"{path.name}: {', '.join(f'{cell.label} ({cell.score:.2f})' for cell in cells) or 'no cell'}")
