import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BUFFERS = """
import resource, sys
import numpy as np
from tagmask.memory import keep_freed_memory
if "keep" in sys.argv:
    keep_freed_memory()
np.ones(48 << 20, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(48 << 20, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


DECODE = """
import io, resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from PIL import Image
from tagmask.memory import return_large_blocks
from tagmask.photos import decode

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

return_large_blocks()
photos = []
for mode, form in (("RGB", "PNG"), ("RGBA", "WEBP"), ("F", "TIFF"), ("CMYK", "JPEG"), ("RGB", "PPM")):
    target = io.BytesIO()
    Image.new(mode, (2500, 2000)).save(target, form)
    photos.append(target.getvalue())
before = resident()
with ThreadPoolExecutor(4) as threads:
    list(threads.map(lambda data: decode(data, long_side=512, max_pixels=10**7), photos * 3))
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_the_memory_of_decoded_photos_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", DECODE], capture_output=True, text=True, cwd=ROOT, check=True)
    assert int(done.stdout) < 20_000_000


def fresh_pages(*arguments: str) -> int:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", BUFFERS, *arguments]
    return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_used_again():
    assert fresh_pages("keep") < 100 < fresh_pages()
