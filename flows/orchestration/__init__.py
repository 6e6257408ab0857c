"""Prefect's plumbing: server, crashed runs, schedule, notifications, task runners, progress, artifacts."""
