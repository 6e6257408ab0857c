"""A run from tagged photos to a bundle.

train         `tagmask train`: begins or resumes a run, executes it, exports the bundle
plan          which stage happens when
executor      goes through the plan, by a backend
local         the backend of this machine
worker        single stages in another process, for the backend of `flows`
layout        the files of a run
description   run.json and photos.json: data and settings
ledger        ledger.jsonl: a line per finished stage
resume        new folder or resumed run
start         an earlier run to start from
duration      seconds as text
"""
