"""One self-describing .tflite, and what opens it."""
