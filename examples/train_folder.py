"""Trains on a folder of tagged photos, reports progress, and segments a few of the photos.

    python examples/train_folder.py DATA --out run

DATA is one folder per class, a CSV list, or any other layout of docs/data.md.
"""

import argparse
from pathlib import Path

import tagmask


def print_progress(progress: tagmask.StageProgress) -> None:
    """Rewrite one line on the terminal."""
    end = "\n" if progress.done == progress.total else "\r"
    print(f"{progress.stage}: {progress.done} of {progress.total}", end=end, flush=True)


def main() -> None:
    """Train, evaluate if there are true masks, and segment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="tagged photos")
    parser.add_argument("--out", type=Path, default=Path("run"), help="folder of the run")
    parser.add_argument("--val", help="split with true masks, to evaluate on")
    parser.add_argument("--config", type=Path, help="TOML file of settings")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run")
    options = parser.parse_args()

    try:
        run = tagmask.train(
            options.data,
            out=options.out,
            split="train" if options.val else None,
            config=options.config,
            resume=options.resume,
            progress=print_progress,
        )
        print(f"{run.model}: round {run.round}, tag consistency {run.figures['consistency']:.2f}")
        if options.val:
            scores = tagmask.evaluate(run.model, options.data, split=options.val).without_tags
            print(f"mIoU {scores.miou} on {scores.photos} photos; by class: {dict(scores.iou)}")
    except tagmask.TagmaskError as error:
        raise SystemExit(f"error: {error}") from None

    with tagmask.Segmenter.load(run.model) as segmenter:
        for path in sorted(options.data.rglob("*.jpg"))[:5]:
            result = segmenter.segment(path)
            (options.out / f"{path.stem}.png").write_bytes(result.answers["png"])
            print(f"{path}: {', '.join(result.present) or 'background only'}")


if __name__ == "__main__":
    main()
