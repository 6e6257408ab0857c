"""Requests masks of photos from a running service, and prints what is in them.

    make serve                                              # in another terminal
    python examples/client.py photo.jpg --tags dog

For each photo, PHOTO.mask.png is written next to it, and PHOTO.overlay.png for viewing.
"""

import argparse
from pathlib import Path

from PIL import Image

from tagmask import Client, NoAnswerError, RequestError


def main() -> None:
    """Segment the photos of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--tags", nargs="*", default=(), help="what the photos show; without, any class can appear")
    parser.add_argument("--url", default="http://localhost:3000")
    parser.add_argument("--key", help="API key, if the service requires one")
    options = parser.parse_args()

    with Client(options.url, api_key=options.key) as client:
        for path in options.photos:
            try:
                result = client.segment(path, tags=options.tags, formats=["overlay"])
            except (OSError, RequestError) as error:
                print(f"{path}: {error}")  # such as a tag that the model does not know; go on with the next photo
                continue
            except NoAnswerError as error:
                raise SystemExit(f"{error}\nStart a service with: make serve") from None
            path.with_suffix(".mask.png").write_bytes(result.answers["png"])
            Image.fromarray(result.overlay).save(path.with_suffix(".overlay.png"))
            shares = (f"{name} {result.mask_of(name).mean():.0%}" for name in result.present)
            print(f"{path}: {', '.join(shares) or 'background only'}")


if __name__ == "__main__":
    main()
