"""MediaPipe Tasks: its ImageClassifier loads our file and finds the labels in the file's metadata."""

from __future__ import annotations

from protocol import Labels, serve


def load(setup):  # noqa: D103
    import mediapipe as mp
    from mediapipe.tasks.python.core.base_options import BaseOptions
    from mediapipe.tasks.python.vision import ImageClassifier, ImageClassifierOptions

    base = BaseOptions(model_asset_path=setup["model"])
    classifier = ImageClassifier.create_from_options(ImageClassifierOptions(base_options=base, max_results=1))

    def top(image) -> str:
        return classifier.classify(image).classifications[0].categories[0].category_name

    def crops(items) -> Labels:
        return [top(mp.Image(image_format=mp.ImageFormat.SRGB, data=pixels)) for pixels in items]

    def crop_files(items) -> Labels:
        return [top(mp.Image.create_from_file(path)) for path in items]

    return {"crops": crops, "crop files": crop_files}


if __name__ == "__main__":
    serve(load)
