"""From tagged photos to a mask network; torch lives here. Knows no HTTP, no Prefect and no BentoML."""

import os

# ONNX Runtime reports home unless this is set before its first import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
