"""One backbone, many heads: graphs that share their expensive part are answered from one pass over it."""
