"""The growing data set: each photo of the sources is ingested once, and trainings use fixed versions of the whole.

sources     what each source lists now: photos by path, with their tags
arrivals    which of them are new or changed
ingestion   decodes and copies each of these once, in any process
catalogue   the database of all photos and their origins
update      sources, arrivals, ingestion and catalogue in sequence
snapshots   a version of the data set: its training list and its held-out list
lists       such a list in shards, and the difference between two
flow        all of it as a Prefect flow
"""
