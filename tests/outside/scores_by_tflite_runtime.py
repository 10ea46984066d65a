"""What tflite-runtime says of pictures, as JSON: [[score, ...], ...].

Usage: scores_by_tflite_runtime.py MODEL.tflite PICTURES.npy
"""

import json
import sys

import numpy as np
from tflite_runtime.interpreter import Interpreter

model, pictures = sys.argv[1:]
interpreter = Interpreter(model)
interpreter.allocate_tensors()
entry, exit_ = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
answers = []
for picture in np.load(pictures):
    interpreter.set_tensor(entry["index"], picture[np.newaxis].astype(entry["dtype"]))
    interpreter.invoke()
    answers.append(interpreter.get_tensor(exit_["index"])[0].tolist())
print(json.dumps(answers))  # noqa: T201 - the answer
