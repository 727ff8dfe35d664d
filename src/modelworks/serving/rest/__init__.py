"""The HTTP door: our own HTTP/1.1 carrier (and an ASGI one), routes, the protocol's JSON and binary forms."""
