"""Models of texts that keep every word: sparse weighted n-grams and a linear model, in one graph."""
