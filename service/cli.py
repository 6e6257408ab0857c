"""`tagmask serve`: the service of `service.main`, started from any folder."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from tagmask import launch

app = typer.Typer()


@app.command()
def serve(
    model: Annotated[
        Path | None,
        typer.Argument(
            help="Bundle to serve, or store whose champion is served.",
            exists=True,
            metavar="[MODEL|STORE]",
            show_default="TAGMASK_MODEL, TAGMASK_STORE, the store in ./store, or the model that Tagmask comes with",
        ),
    ] = None,
    host: Annotated[str, typer.Option(envvar="BENTOML_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="BENTOML_PORT", help="Port to listen on.", min=0, max=65535)] = 3000,
    device: Annotated[
        Literal["auto", "cpu", "cuda"] | None,
        typer.Option(help="Device that runs the network.", show_default="TAGMASK_DEVICE or auto"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes.", min=1, max=256, show_default="TAGMASK_WORKERS or 1")
    ] = None,
) -> None:
    """Serve masks over HTTP, with a page to try them at http://HOST:PORT.

    Every other setting is an environment variable; docs/serving.md lists them.
    """
    from service.settings import PREFIX, load_settings

    if model is None:
        model_setting = {}
    elif model.is_dir():
        os.environ.pop(f"{PREFIX}MODEL", None)  # comes before the store
        model_setting = {"STORE": model}
    else:
        from tagmask.bundle import read_metadata  # loads onnx

        read_metadata(model)  # an error as in other commands; the supervisor checks the rest
        model_setting = {"MODEL": model}
    for name, value in {**model_setting, "DEVICE": device, "WORKERS": workers}.items():
        if value is not None:
            os.environ[PREFIX + name] = str(value)

    # The service runs in Tagmask's root, so that BentoML imports it from nowhere else.
    settings = load_settings()
    for name, value in settings:
        if isinstance(value, Path) and (name in settings.model_fields_set or value.exists()):
            os.environ[PREFIX + name.upper()] = str(value.absolute())
    os.chdir(launch.ROOT)
    command = launch.command("bentoml", "serve", "service.main:Tagmask", "--host", host, "--port", str(port))
    os.execv(command[0], command)
