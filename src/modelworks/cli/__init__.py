"""The command ``mw``: words on a terminal to verbs of the service, and their answers back."""
