"""Image heads, visual anomalies and the weights made of formulas, measured on public sets."""
