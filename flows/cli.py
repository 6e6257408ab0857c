"""`tagmask flow`: training and retraining by Prefect."""

import typer

app = typer.Typer(help="Train and retrain by Prefect, and promote what is better.", no_args_is_help=True)
