"""Count white cells under a camera until there are enough; python run_camera.py MODEL STORE URL CELLS."""

import sys

from bloodcell_edge import Settings, Store, count_slide, load_model, open_source

model, file, url, cells = sys.argv[1:]  # such as camera:0, http://scope/stream.mjpg, fake:smear?stage=scan
with open_source(url, give_up_after_s=60) as source, Store.open(file) as store:
    done = count_slide(source, load_model(model), store, slide="A12", settings=Settings(cells=int(cells)))
    count = store.differential(done.reading, cells=int(cells))
for label, share in count.shares.items():
    print(f"{label}: {share.percent:.0f} % ({share.low:.0f} to {share.high:.0f})" if share else f"{label}: -")
print(f"{count.unidentified} unidentified, {done.used} fields, {done.refused} refused, {count.status}")
