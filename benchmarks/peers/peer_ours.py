"""bloodcell_edge, as ``bce classify`` runs it, and over a folder whose next pictures are looked at meanwhile."""

from __future__ import annotations

from pathlib import Path

from protocol import Labels, serve


def load(setup):  # noqa: D103
    from bloodcell_edge.capture import open_source
    from bloodcell_edge.cli import ask_of_libraries
    from bloodcell_edge.imaging.image import read_image, resize
    from bloodcell_edge.model.classifier import Classifier
    from bloodcell_edge.records import PreparedField

    ask_of_libraries()
    classifier = Classifier.open(setup["model"], threads=setup["threads"])
    labels, scores, size = classifier.spec.outputs, classifier.interpreter.scores, classifier.spec.input_size

    def top(pixels) -> str:
        return labels[int(scores(pixels).argmax())]

    def crops(items) -> Labels:
        return [top(pixels) for pixels in items]

    def crop_files(items) -> Labels:
        return [top(resize(read_image(path), size)) for path in items]

    def named(predictions) -> Labels:
        return [top_of(one.scores) for one in predictions]

    def top_of(of_labels) -> str:
        # A background, where the model knows one, is the rest of 1: it is no label, but the others name it.
        every = dict(zip(labels, [*of_labels.values(), 1 - sum(of_labels.values())], strict=False))
        return max(every, key=every.__getitem__)

    def fields(items) -> Labels:
        return [label for item in items for label in named(classifier.classify(read_image(item["file"])))]

    def folder(items) -> Labels:
        with open_source(f"folder:{Path(items[0]['file']).parent}") as source:
            source.listen(ahead=lambda image: PreparedField(classifier.show(image)))
            return [label for frame in source for label in named(classifier.answer(frame.ahead.shown))]

    return {"crops": crops, "crop files": crop_files, "fields": fields, "folder": folder}


if __name__ == "__main__":
    serve(load)
