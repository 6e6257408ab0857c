"""A run from tagged photos to a bundle.

train         `tagmask train`: begins or resumes a run, executes it, exports the bundle
plan          the stages of a run, in order
executor      runs the plan on a backend
local         the backend of this machine
worker        single stages in another process, for the backend of `flows`
together      a network trained by several processes, which torchrun starts
layout        the files of a run
description   run.json and photos.json: data and settings
ledger        ledger.jsonl: a line per finished stage
learned       samples.txt and corrected.txt: what a run learned from
start         the earlier run that a run starts from
duration      seconds as text
"""
