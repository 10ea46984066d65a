"""The main job as a script, what bce train, convert and parity do; python train_convert_prove.py DATA OUT."""

import sys

import bloodcell_edge

data, out = sys.argv[1:]
quick = {"weights": "none", "fine_tune": 0, "alpha": 0.35, "size": 64, "epochs": 1}  # seconds: not for real
run = bloodcell_edge.train(data, "field", out=out, **quick)
for made in bloodcell_edge.convert(run, targets=["int8"]):
    print(f"{made.file}: {made.bytes:,} bytes, for TFLite {made.min_runtime} and later")
found = bloodcell_edge.prove(run)
print(f"held-back accuracy {found.reference_accuracy:.1f} %, int8 agreement {found.candidates[0].agreement:.1f} %")
