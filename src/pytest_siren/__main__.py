"""``python -m pytest_siren`` is the command ``siren``."""

from pytest_siren.cli.main import main

raise SystemExit(main())
