"""The templates of pages, each self-contained: base.html is filled by the others, and styled by page.css."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from tagmask.wording import count, printable
from training.run.duration import duration
from training.run.ledger import remark

FAULTS_SHOWN = 20
"""Photos left out that are listed individually."""


@cache
def environment() -> Environment:
    """For the templates beside this module: it escapes all values, and spells out control characters."""
    templates = Environment(
        loader=PackageLoader("training.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    templates.filters |= {"count": count, "duration": duration, "remark": remark}
    templates.globals["faults_shown"] = FAULTS_SHOWN
    return templates
