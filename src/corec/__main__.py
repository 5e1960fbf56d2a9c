"""python -m corec: the command line."""

from corec.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
