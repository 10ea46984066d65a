"""Which files of a folder tflite-runtime opens, by name, as a JSON list.

Usage: opened_by_tflite_runtime.py FOLDER
"""

import json
import sys
from pathlib import Path

from tflite_runtime.interpreter import Interpreter

opened = []
for file in sorted(Path(sys.argv[1]).iterdir()):
    try:
        Interpreter(str(file))
    except ValueError as error:
        if "Didn't find op" not in str(error):
            raise
    else:
        opened.append(file.name)
print(json.dumps(opened))  # noqa: T201 - the answer
