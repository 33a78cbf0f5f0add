"""The errors a user is meant to read."""


class UserError(ValueError):
    """Something the user gave cannot be used: the message names what was got and what is allowed, in one line."""


class StorageError(UserError):
    """A place cannot be read or written (full, read-only, gone): nothing is wrong with the data itself."""
