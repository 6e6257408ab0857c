"""When and where training runs, and what gets promoted. The only package that sees training, store and Prefect."""
