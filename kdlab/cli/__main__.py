"""``python -m kdlab.cli``: as ``kdlab``."""

from kdlab.cli import main

if __name__ == "__main__":
    main()
