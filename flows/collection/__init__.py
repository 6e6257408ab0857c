"""The growing data set: each photo of the sources is ingested once, and trainings use fixed versions of the whole.

sources      what each source lists now: photos by path, with their tags
ingestion    decodes and copies each of these once, in any process
catalogue    the database of all photos and their origins
source_list  the photos that the sources list during an update, in a file of their own
database     what both files have in common
update       ingests and records what is new or changed at the sources
snapshots    a version of the data set: its training list and its held-out list
lists        such a list in shards, and the difference between two
flow         all of it as a Prefect flow
"""
