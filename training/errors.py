"""What a user can cause, as one small tree of exceptions.

    TagmaskError
    ├── DataError      a photo, a tag list or a mask is not as it must be
    ├── ConfigError    a setting is unknown, mistyped or out of range
    ├── RunError       a run folder cannot be started, resumed or read
    └── BundleError    a model file is not a Tagmask bundle, or failed its own checks

Every message names the file or field, the limit, and the remedy. The command line prints the message alone and exits
with status 2; any other exception is a defect of ours.
"""


class TagmaskError(Exception):
    """Base of everything a user can cause."""


class DataError(TagmaskError):
    """A photo, a tag list or a mask is not as it must be."""


class ConfigError(TagmaskError):
    """A setting is unknown, mistyped or out of range."""


class RunError(TagmaskError):
    """A run folder cannot be started, resumed or read."""


class BundleError(TagmaskError):
    """A model file is not a Tagmask bundle, or failed its own checks."""
