import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

DECODE = """
import io, resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from PIL import Image
from service.memory import return_large_blocks
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
