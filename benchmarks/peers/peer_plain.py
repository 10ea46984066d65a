"""What people write: open with PIL, resize, make an array, run the interpreter, take the largest.

The steps are those of TensorFlow's label_image example, which also scales floats; our files take 0..255 as it is. It
knows nothing of cells: where the model wants them it is given our boxes, for nothing.
"""

from __future__ import annotations

from protocol import Labels, serve


def load(setup):  # noqa: D103
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter
    from PIL import Image

    interpreter = Interpreter(model_path=setup["model"], num_threads=setup["threads"])
    interpreter.allocate_tensors()
    entry, exit_ = interpreter.get_input_details(), interpreter.get_output_details()
    height, width = entry[0]["shape"][1:3]
    labels = setup["labels"]

    def top(image) -> str:
        data = np.expand_dims(image.resize((width, height)), axis=0)
        if entry[0]["dtype"] == np.float32:
            data = np.float32(data)
        interpreter.set_tensor(entry[0]["index"], data)
        interpreter.invoke()
        results = np.squeeze(interpreter.get_tensor(exit_[0]["index"]))
        return labels[results.argsort()[::-1][0]]

    def crop_files(items) -> Labels:
        return [top(Image.open(path).convert("RGB")) for path in items]

    def fields(items) -> Labels:
        found = []
        for item in items:
            image = Image.open(item["file"]).convert("RGB")
            for x, y, w, h in item["windows"]:
                found.append(top(image.crop((x, y, x + w, y + h)) if item["crop"] else image))
        return found

    return {"crop files": crop_files, "fields": fields}


if __name__ == "__main__":
    serve(load)
