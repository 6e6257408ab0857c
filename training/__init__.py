"""From tagged photos to a mask network. The only package with torch; it has no HTTP, Prefect or BentoML.

stages       the method, a module per stage
networks     tag classifier, RegionNet, PixelNet, and their export
fitting      the training loop, sampling, augmentation
datasets     readers and writers of tagged photos
evaluation   metrics, and bundles on photos with true masks
run          a run: what happens when, ledger, resuming
report       a run as an HTML page
config       all settings of a run
choices      names that settings and options choose from
cli          `tagmask train` and its relatives, on the command line
api          the child process of `tagmask.train` and `tagmask.evaluate` in Python
"""

import os

# ONNX Runtime and the Hugging Face hub report home unless these are set before their first import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
