"""The limit: a tight loop of set_tensor, invoke, get_tensor over crops that are ready, with the same interpreter."""

from __future__ import annotations

from protocol import Labels, serve


def load(setup):  # noqa: D103
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=setup["model"], num_threads=setup["threads"])
    interpreter.allocate_tensors()
    entry, exit_ = interpreter.get_input_details()[0], interpreter.get_output_details()[0]["index"]
    labels, index, dtype = setup["labels"], entry["index"], entry["dtype"]
    ready: dict[int, np.ndarray] = {}

    def crops(items) -> Labels:
        if not ready:  # in the round that is not counted
            ready.update((number, pixels[np.newaxis].astype(dtype)) for number, pixels in enumerate(items))
        found = []
        for pixels in ready.values():
            interpreter.set_tensor(index, pixels)
            interpreter.invoke()
            found.append(labels[interpreter.get_tensor(exit_)[0].argmax()])
        return found

    return {"crops": crops}


if __name__ == "__main__":
    serve(load)
