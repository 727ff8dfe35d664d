"""Values and contracts of the house; standard library only."""
