"""The version of the program, for records that outlive it."""

VERSION = "0.1.0"
