"""Blood-cell classification from smear photographs to a small device, with proof at every step.

Only light names live here; everything else is imported where it is used, so that ``import bloodcell_edge`` costs
no numpy, no OpenCV and no TensorFlow.
"""

__version__ = "0.1.0"
