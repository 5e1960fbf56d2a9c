"""python -m corec, and the command: the command line, which takes a third of a second to load."""


def main() -> int:
    """Run the command line; its exit status, also of Ctrl-C while it is being loaded."""
    try:
        from corec.cli import main
    except KeyboardInterrupt:
        return 130
    return main()


if __name__ == "__main__":
    raise SystemExit(main())
