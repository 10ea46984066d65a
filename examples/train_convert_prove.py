"""The main job as a script; python train_convert_prove.py DATA OUT."""

import sys
from pathlib import Path

from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.progress import SILENT
from bloodcell_edge.runs import RunFolder
from bloodcell_edge.training.fit import train
from bloodcell_edge.training.kerasmodel import open_keras
from bloodcell_edge.training.recipes import choose_recipe
from convert.files import convert_files
from convert.parity import GateLimits
from convert.proof import prove
from convert.representative import representative_pictures
from convert.targets import Target

run = RunFolder(Path(sys.argv[2]))
recipe = choose_recipe("field", weights="none", alpha=0.35, size=64, epochs=1)  # a minute's worth: not for real
spec = train(load_data(sys.argv[1]), recipe, run, report=SILENT)
model = open_keras(run.model)
samples = representative_pictures(run.model, model.spec, None, allow_small=False, report=SILENT)
convert_files(model, [Target.INT8], run.path, representative=samples, report=SILENT)
found = prove(run.model, (), None, limits=GateLimits(), report=SILENT)
print(f"held-back accuracy {spec.figures['accuracy']:.3f}, int8 agreement {found.candidates[0].agreement:.1f} %")
