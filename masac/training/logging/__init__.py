"""What a run reports while it trains and at its end."""
