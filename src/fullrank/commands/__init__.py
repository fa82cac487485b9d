"""The commands, a file each: a dataclass whose fields are its flags; what it does is imported when it runs."""
