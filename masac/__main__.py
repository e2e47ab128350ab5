"""``python -m masac`` is ``masac``."""

from masac.cli.main import main

if __name__ == "__main__":
    main()
