"""What NVIDIA's drivers can run."""

_LEAST_DRIVERS = {"12": "525", "13": "580"}
"""The oldest driver of each major version of CUDA: https://docs.nvidia.com/deploy/cuda-compatibility"""


def driver_too_old(cuda: str) -> str:
    """Why a driver cannot run a build for CUDA version `cuda`, such as "13.2", in words."""
    major = cuda.partition(".")[0]
    least = f"{_LEAST_DRIVERS[major]} or newer" if major in _LEAST_DRIVERS else "a newer one"
    return f"the NVIDIA driver is too old: CUDA {major} needs {least}"
