"""ONNX Runtime on the same graph, converted from the .tflite by tf2onnx."""

from __future__ import annotations

from protocol import Labels, serve


def load(setup):  # noqa: D103
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = setup["threads"], 1
    session = onnxruntime.InferenceSession(setup["model"], options, providers=["CPUExecutionProvider"])
    entry, labels = session.get_inputs()[0], setup["labels"]
    dtype = np.uint8 if "uint8" in entry.type else np.float32

    def crops(items) -> Labels:
        found = []
        for pixels in items:
            scores = session.run(None, {entry.name: pixels[np.newaxis].astype(dtype, copy=False)})[0]
            found.append(labels[scores[0].argmax()])
        return found

    return {"crops": crops}


if __name__ == "__main__":
    serve(load)
