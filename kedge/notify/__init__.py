"""From transitions to messages, and to the receivers that deliver them."""
