"""Masks over HTTP: serves a bundle with BentoML and ONNX Runtime, independently of training."""
