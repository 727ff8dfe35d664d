"""Series: forecasts, classification and anomalies on public sets, through the shipped graphs."""
