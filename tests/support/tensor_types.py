"""What kinds of tensors a .tflite holds, read from the flatbuffer alone."""

from __future__ import annotations

from collections import Counter

from bloodcell_edge.model.flatbuffer import read_model, schema


def tensor_types(flatbuffer):
    """How many tensors of each type, e.g. {"INT8": 174, "INT32": 54, "FLOAT32": 1, "UINT8": 1}."""
    names = {number: name for name, number in vars(schema().TensorType).items() if isinstance(number, int)}
    model = read_model(flatbuffer)
    graphs = [model.Subgraphs(index) for index in range(model.SubgraphsLength())]
    return Counter(names[graph.Tensors(one).Type()] for graph in graphs for one in range(graph.TensorsLength()))
