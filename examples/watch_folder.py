"""Count cells in pictures as a microscope drops them; python watch_folder.py MODEL FOLDER STORE PICTURES."""

import sys

from bloodcell_edge import Store, count_slide, load_model, open_source

model, folder, file, pictures = sys.argv[1:]
seen = 0


def show(progress) -> None:
    """Called when a field is safe in the store."""
    global seen
    seen += 1
    print(progress.field.path, progress.field.status, progress.field.reason, dict(progress.counts), flush=True)


with open_source(f"folder:{folder}", watch=True) as source, Store.open(file) as store:
    count_slide(source, load_model(model), store, slide=folder, on_field=show, stop=lambda: seen >= int(pictures))
