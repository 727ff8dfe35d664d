"""``mw produce FILE --target COLUMN`` without any other flag, on files as they are found."""
