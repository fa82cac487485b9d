"""`python -m fullrank` is `fullrank`."""

from fullrank.cli import entry_point

if __name__ == "__main__":
    entry_point()
