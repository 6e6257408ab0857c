"""A training as a flow: the executor of `training.run`, with Prefect as its backend.

keys              what decides a stage's result, as a digest, so that nothing is computed twice
tasks             stages as Prefect tasks
training_process  the process that has torch, beside the flow's
flow              the flow, and the backend
"""
