"""Sessions that pytest-xdist distributes: ``-n`` and ``--dist``."""
