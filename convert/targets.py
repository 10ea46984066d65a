"""What a Keras model can be converted to.

========  =======  ===========  ==============  =====================  ======================================
target    weights  activations  input           output                 representative dataset
========  =======  ===========  ==============  =====================  ======================================
float32   float32  float32      float32 0..255  float32 probabilities  not needed
float16   float16  float32      float32 0..255  float32 probabilities  not needed
dynamic   int8     float32      float32 0..255  float32 probabilities  not needed
int8      int8     int8         uint8 0..255    float32 probabilities  needed, from training pictures
========  =======  ===========  ==============  =====================  ======================================

Weights of convolutions are quantized per channel. Those of Dense layers per tensor: per channel they would need
FULLY_CONNECTED version 12, which tflite-runtime 2.14 does not know.
"""

from __future__ import annotations

from enum import Enum


class Target(Enum):
    """A row of the table above."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    DYNAMIC = "dynamic"
    INT8 = "int8"

    @property
    def needs_samples(self) -> bool:
        """Whether it must see a representative dataset."""
        return self is Target.INT8

    @property
    def file_name(self) -> str:
        """What ``bce convert`` calls the file."""
        return f"bloodcell-{self.value}.tflite"
