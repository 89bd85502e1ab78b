"""HTTP in: a POST becomes checked alerts, acknowledged when the journal has them."""
