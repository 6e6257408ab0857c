"""`tagmask quantize`: a bundle in int8."""

from pathlib import Path
from typing import Annotated

import typer

from tagmask.cli.terminal import Bars, tell
from tagmask.disk import writable
from tagmask.errors import BundleError
from tagmask.wording import count
from training.cli.data import DataFormat, Split


def quantize(
    model: Annotated[Path, typer.Argument(help="A bundle, model.onnx, in fp32 or fp16.", metavar="MODEL")],
    calibration: Annotated[
        list[Path],
        typer.Option(help="Tagged photos, such as those of the training; repeatable.", metavar="DATA"),
    ],
    out: Annotated[Path, typer.Option(help="Bundle to write.", metavar="FILE")],
    split: Split = None,
    format: DataFormat = None,
) -> None:
    """Quantize a bundle's network to int8: a smaller file and less time per photo, for nearly the same masks."""
    from tagmask import files
    from tagmask.bundle import read_bundle
    from training.datasets import load
    from training.networks.parity import QUANTIZATION_PHOTOS
    from training.networks.quantization import quantize

    if files.real_path(out) == files.real_path(model):
        raise BundleError(f"{out}: is the bundle to quantize, which would be replaced; choose another file with --out")
    bundle = read_bundle(model)
    photos = [photo.path for photo in load(calibration, split=split, format=format).photos]
    with Bars().stage("quantizing", min(QUANTIZATION_PHOTOS, len(photos))) as advance:
        quantized = quantize(bundle, photos, advance=advance)
    with writable(out):
        files.write_bytes(out, quantized.data)
    done = quantized.metadata.quantization
    assert done is not None
    share = f"{done.agreement:.1%} of the pixels of {count(done.compared_photos, 'photo')}"
    tell(f"{quantized.metadata.version} agrees with {bundle.metadata.version} on {share}; {out}")
