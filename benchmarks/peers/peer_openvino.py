"""OpenVINO, which reads the .tflite itself."""

from __future__ import annotations

from protocol import Labels, serve


def load(setup):  # noqa: D103
    import numpy as np
    import openvino as ov

    core = ov.Core()
    model = core.read_model(setup["model"])
    model.reshape([1, *setup["size"], 3])
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": setup["threads"]}
    compiled = core.compile_model(model, "CPU", options)
    request, dtype, labels = compiled.create_infer_request(), compiled.input(0).element_type.to_dtype(), setup["labels"]

    def crops(items) -> Labels:
        found = []
        for pixels in items:
            request.infer([pixels[np.newaxis].astype(dtype, copy=False)], share_inputs=True, share_outputs=True)
            found.append(labels[request.get_output_tensor(0).data[0].argmax()])
        return found

    return {"crops": crops}


if __name__ == "__main__":
    serve(load)
