"""python -m examples.demo draw DIR [--photos 200]: draw a small tagged data set, with hidden masks to measure against.

python -m examples.demo train DIR: train a first model on the photos in DIR/data that do not show the new class.

python -m examples.demo loop DIR: serve that model, and learn the new class while it serves.

train and loop take [--storage s3://bucket/prefix], and then keep data, inbox and store there instead of in DIR.

Finished steps are not repeated; remove DIR, and what is in the storage, to start over.
"""

import argparse
import signal
import sys
from pathlib import Path

from examples.demo.drawing import MIN_PHOTOS, make_demo_photos
from examples.demo.loop import Demo, data_of, demo_settings, learn_new_class, train_first_model
from flows.orchestration.console import log_to_console
from tagmask.cli.terminal import Bars
from tagmask.errors import TagmaskError
from tagmask.inputs import is_url, location


def draw(folder: Path, photos: int, seed: int) -> None:
    """Draw `photos` tagged photos in `folder`."""
    with Bars().stage("drawing photos", photos) as advance:
        make_demo_photos(folder, photos=photos, seed=seed, advance=advance)
    print(f"{photos:,} tagged photos in {folder}")


def main() -> int:
    """Run the command; returns the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the service is stopped in any case
    try:
        options = _options()
        if options.command == "draw":
            draw(options.folder, options.photos, options.seed)
            return 0
        log_to_console()
        settings = demo_settings(data_of(options.folder, options.storage))
        demo = Demo(options.folder, settings, options.storage)
        train_first_model(demo) if options.command == "train" else learn_new_class(demo)
    except TagmaskError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command to resume", file=sys.stderr)
        return 130
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("draw", "train", "loop"):
        command = commands.add_parser(name)
        command.add_argument("folder", type=Path, metavar="DIR")
        if name == "draw":
            command.add_argument("--photos", type=int, default=200, help=f"number of photos, at least {MIN_PHOTOS}")
            command.add_argument("--seed", type=int, default=0, help="seed of the random drawings")
        else:
            command.add_argument("--storage", type=_url, metavar="URL", help="place for data, inbox and store")
    return parser.parse_args()


def _url(text: str) -> str:
    if not is_url(text):
        raise argparse.ArgumentTypeError(f"{text} is no URL; give one such as s3://bucket/prefix")
    return str(location(text))


if __name__ == "__main__":
    sys.exit(main())
