"""Networks of their own for one task, for when a head on a shared backbone does not pass; needs the extra ``torch``."""
