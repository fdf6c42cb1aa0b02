"""What `kedge demo` runs on: real data, a small model, and a clock that can be played faster."""
