"""The commands of `tagmask` that learn from tagged photos, and measure what was learned.

What commands do is imported inside them, so that `--help` answers at once, and the data commands do not load torch.
"""

import typer

from training.cli import data, label, look, measure, quantize, report, train
from training.fitting.process import spin_briefly

spin_briefly()

app = typer.Typer()
for command in (
    train.train, quantize.quantize, measure.evaluate, measure.score, label.label, look.look, report.report
):  # fmt: skip
    app.command()(command)
app.add_typer(data.app, name="data")
