"""``python -m modelworks`` is ``mw``."""

from modelworks.cli.main import main

main()
