"""Messages, receivers and delivery."""
