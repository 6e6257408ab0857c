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


PLANES = """
import resource
import numpy as np
from tagmask.memory import return_large_blocks

def photo():
    return [np.ones(2_000_000, np.uint8) for _ in range(3)]

return_large_blocks()
photo()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    photo()
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


PEAKS = """
import io
from pathlib import Path
from PIL import Image
from tagmask.memory import return_large_blocks
from tagmask.photos import decode

def kilobytes(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))

return_large_blocks()
turned = Image.Exif()
turned[0x0112] = 6
for mode, form, options in (
    ("RGB", "WEBP", {}), ("RGBA", "WEBP", {"lossless": True}), ("F", "TIFF", {"compression": "tiff_lzw"}),
    ("I", "TIFF", {}), ("RGBA", "PNG", {"exif": turned}), ("RGB", "PNG", {"transparency": (0, 0, 0)}),
    ("I;16", "PNG", {}), ("P", "GIF", {"transparency": 0}), ("CMYK", "JPEG", {"progressive": True}),
    ("RGBA", "AVIF", {"speed": 10}),
):
    target = io.BytesIO()
    Image.new(mode, (3000, 2000)).save(target, form, **options)
    decode(target.getvalue(), long_side=512, max_pixels=10**7)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    before = kilobytes("VmRSS")
    decode(target.getvalue(), long_side=512, max_pixels=10**7)
    print(form, mode, (kilobytes("VmHWM") - before) * 1024 / 6e6)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is Linux's")
def test_a_photo_in_decoding_takes_twelve_bytes_per_pixel() -> None:
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, cwd=ROOT, check=True)
    peaks = {line.rpartition(" ")[0]: float(line.split()[-1]) for line in done.stdout.splitlines()}
    assert len(peaks) == 10
    assert {name: peak for name, peak in peaks.items() if peak > 13.5} == {}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_the_memory_of_decoded_photos_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", DECODE], capture_output=True, text=True, cwd=ROOT, check=True)
    assert int(done.stdout) < 40_000_000  # of each of four threads, 8 MB may stay


def fresh_pages(script: str, *arguments: str) -> int:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", script, *arguments]
    return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=ROOT).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_the_memory_of_a_photo_at_its_working_size_is_used_again() -> None:
    assert fresh_pages(PLANES) < 200  # of 15,000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_used_again():
    assert fresh_pages(BUFFERS, "keep") < 100 < fresh_pages(BUFFERS)
