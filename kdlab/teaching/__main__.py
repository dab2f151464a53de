"""``python -m kdlab.teaching [NAME ...]``: execute the lessons and keep their outputs."""

import sys

from kdlab.teaching.builder import refresh_all

if __name__ == "__main__":
    refresh_all(sys.argv[1:])
