"""Tests, in whose processes nothing waits for the disk: none pulls the plug, and a short run waits forty times."""

import os

os.fsync = lambda descriptor: None
