"""One small server per peer, each the plain way its documentation shows, all asked the same questions."""
