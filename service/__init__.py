"""Masks over HTTP: a bundle in, REST out. BentoML and ONNX Runtime; knows nothing of training."""
