"""Model details, with the standard library alone; python read_spec.py FILE.tflite."""

import json
import sys
import zipfile

with zipfile.ZipFile(sys.argv[1]) as inside:
    labels = inside.read("labels.txt").decode().split()
    spec = json.loads(inside.read("bce.json"))
print(", ".join(labels))
print(f"{spec['target']}, {spec['input_size'][0]} px, {spec['intended_use']}")
