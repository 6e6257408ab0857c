"""What a file is, by its first bytes; names and headers are not trusted."""

import re

from tagmask.photos.refusals import PhotoRefusedError

_TYPES = {
    "image/jpeg": (".jpg", rb"\xff\xd8\xff"),
    "image/png": (".png", rb"\x89PNG\r\n\x1a\n"),
    "image/webp": (".webp", rb"RIFF....WEBP"),
    "image/avif": (".avif", rb".{4}ftyp(.{4})*avi[fs]"),
    "image/heic": (".heic", rb".{4}ftyp(.{4})*he[iv][cmsx]"),
    "image/heif": (".heif", rb".{4}ftyp(.{4})*m[is]f1"),
    "image/gif": (".gif", rb"GIF8[79]a"),
    "image/bmp": (".bmp", rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"),
    "image/tiff": (".tif", rb"II[*+]\0(?!....CR)|MM\0[*+]"),
    "image/x-portable-anymap": (".pnm", rb"P[1-6]\s"),
}  # by media type: the usual suffix, and how the file begins

SUFFIXES = {media_type: suffix for media_type, (suffix, _) in _TYPES.items()}
"""The usual file name suffix of each media type that is decoded."""

PHOTO_SUFFIXES = frozenset({*SUFFIXES.values(), ".jpeg", ".jpe", ".jfif", ".hif", ".tiff", ".pbm", ".pgm", ".ppm"})
"""Lower-case suffixes of the files in a folder that are taken for photos."""

MEDIA_TYPES = tuple(SUFFIXES)
"""Media types that are decoded."""

_UNSUPPORTED = {
    rb"(\xef\xbb\xbf)?\s*(<.*)?<svg": "an SVG drawing",
    rb"%PDF": "a PDF",
    rb"%!PS|\xc5\xd0\xd3\xc6": "PostScript",
    rb"8BPS": "a Photoshop file",
    rb"gimp xcf": "a GIMP file",
    rb"\0\0\x01\0[^\0]\0": "an icon",
    rb"icns": "an icon",
    rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51": "JPEG 2000",
    rb"\0\0\0\x0cJXL |\xff\x0a": "JPEG XL",
    rb"II...\0..CR|IIU\0|IIR[OS]|MMOR|FUJIFILMCCD-RAW|.{4}ftypcrx ": "a camera raw file",
    rb".{4}ftyp.{4}|\x1aE\xdf\xa3|RIFF....AVI ": "a video",
    rb"\xd7\xcd\xc6\x9a": "a Windows metafile",
    rb"P[7Ff]\s": "Netpbm in the PAM or PFM variant",
    rb"v/1\x01": "OpenEXR",
    rb"DDS ": "a DirectDraw surface",
    rb"qoif": "QOI",
}
_LFS = b"version https://git-lfs.github.com/spec/"
_URL = re.compile(rb"(\xef\xbb\xbf)?\s*['\"]?([a-z][a-z0-9+.-]{1,20}://|//|www\.|data:|file:|blob:)", re.IGNORECASE)


def recognise(data: bytes) -> str:
    """The media type of `data`, one of MEDIA_TYPES.

    Raises PhotoRefusedError with the code empty_image, url_not_fetched, unsupported_image or not_an_image.
    """
    head = data[:1024]
    brands = data[: min(int.from_bytes(data[:4], "big"), 256)]  # those of an ISO media file are in its first box
    for media_type, (_, signature) in _TYPES.items():
        if re.match(signature, brands if data[4:8] == b"ftyp" else head, re.DOTALL):
            return media_type
    if not data:
        raise PhotoRefusedError("empty_image", "is empty")
    if _URL.match(head):
        raise PhotoRefusedError("url_not_fetched", "is a URL, and URLs are not fetched")
    if head.startswith(_LFS):
        raise PhotoRefusedError("not_an_image", "is a pointer of Git LFS, whose photo `git lfs pull` fetches")
    for signature, name in _UNSUPPORTED.items():
        if re.match(signature, head, re.DOTALL):
            raise PhotoRefusedError("unsupported_image", f"is {name}, which is not supported")
    raise PhotoRefusedError("not_an_image", "is not an image of a known type")
