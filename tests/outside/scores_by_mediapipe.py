"""What MediaPipe's ImageClassifier says of pictures, as JSON: [{label: score}, ...].

Usage: scores_by_mediapipe.py MODEL.tflite PICTURES.npy
"""

import json
import sys

import mediapipe as mp
import numpy as np
from mediapipe.tasks.python.core.base_options import BaseOptions
from mediapipe.tasks.python.vision import ImageClassifier, ImageClassifierOptions

model, pictures = sys.argv[1:]
options = ImageClassifierOptions(base_options=BaseOptions(model_asset_path=model), max_results=-1)
answers = []
with ImageClassifier.create_from_options(options) as classifier:
    for picture in np.load(pictures):
        result = classifier.classify(mp.Image(image_format=mp.ImageFormat.SRGB, data=picture))
        answers.append({category.category_name: category.score for category in result.classifications[0].categories})
print(json.dumps(answers))  # noqa: T201 - the answer
